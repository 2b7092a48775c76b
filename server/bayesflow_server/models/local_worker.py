"""The child process that holds a local model: JSON lines in on stdin, JSON lines out on stdout.

    parent → {"id": 1, "messages": [{"role", "content"}],
              "max_tokens", "temperature", "seed", "stop"}
    child  → {"ready": true} once, or {"error": "..."} and the end
    child  → {"id": 1, "text", "stop_reason", "input_tokens", "cached_tokens", "output_tokens"}
             or {"id": 1, "error": "..."}

Started by `local_process.py` *by file path*: it imports nothing of this project, and nothing but
the standard library before the pipes are safe. End of input ends it at once, even in the middle of
a generation, so it cannot outlive its parent.
"""

import json
import os
import queue
import sys
import threading
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from xllamacpp import JsonValue, Server

__all__ = ["main"]

# llama.cpp's own defaults, fixed here so that a new version of it cannot change answers silently.
_SAMPLING: "dict[str, JsonValue]" = {"top_k": 40, "top_p": 0.95, "min_p": 0.05}


def main(arguments: list[str]) -> None:
    """Serves ``GGUF N_CTX N_BATCH THREADS PROMPT_THREADS CACHE_MIB`` until stdin ends."""
    requests, replies = _take_over_pipes()
    path, *numbers = arguments
    settings = [int(number) for number in numbers]
    pending: queue.SimpleQueue[str] = queue.SimpleQueue()

    def serve() -> None:
        try:
            server = _load(path, *settings)
        except Exception as error:  # told to the parent, which decides
            _send(replies, {"error": f"{type(error).__name__}: {error}"})
            os._exit(1)
        _send(replies, {"ready": True})
        while True:
            _send(replies, _answer(server, json.loads(pending.get())))

    # The generating call releases the GIL, so this thread hears the end of input meanwhile.
    threading.Thread(target=serve, daemon=True).start()
    for line in requests:
        pending.put(line)
    os._exit(0)


def _take_over_pipes() -> tuple[IO[str], IO[str]]:
    """Keeps the two pipes to ourselves: what llama.cpp prints goes to stderr instead."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _load(
    path: str, n_ctx: int, n_batch: int, threads: int, prompt_threads: int, cache_mib: int
) -> "Server":
    import xllamacpp  # heavy (0.1 s, 100 MB), and it may print: only once the pipes are ours

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = n_ctx
    params.n_parallel = 1
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = prompt_threads
    # Threads that wait must sleep: one that spins takes the core another is waited for on, and on
    # a busy machine two then read a prompt five times slower than one.
    params.cpuparams.poll = 0
    params.cpuparams_batch.poll = 0
    params.cache_prompt = True
    params.cache_ram_mib = cache_mib
    # Invariant: a token's numbers do not depend on how many tokens are computed with it, so what
    # the prompt cache holds cannot change an answer. The attention kernel switches to another
    # summation order at 64 rows; below that all batch sizes agree to the bit. Repacked weights
    # would bring further kernels that depend on the batch.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.n_batch = n_ctx
    params.n_ubatch = n_batch
    params.no_extra_bufts = True
    params.ctx_shift = False
    params.prefill_assistant = False
    params.n_gpu_layers = 0
    params.verbosity = -1
    # The library also opens an HTTP port on loopback, which nobody is to use.
    params.api_keys = [os.urandom(16).hex()]
    params.endpoint_slots = False
    params.ui = False
    params.n_threads_http = 1
    return xllamacpp.Server(params)


def _answer(server: "Server", request: "dict[str, JsonValue]") -> "dict[str, JsonValue]":
    number = request.pop("id")
    try:
        reply = server.handle_chat_completions(_SAMPLING | request)
        return {"id": number} | _read(reply)
    except Exception as error:  # told to the parent, which decides
        return {"id": number, "error": f"{type(error).__name__}: {error}"}


def _read(reply: "dict[str, JsonValue]") -> "dict[str, JsonValue]":
    match reply:
        case {"error": {"type": "exceed_context_size_error", "n_prompt_tokens": tokens}}:
            return _result("", "context_overflow", tokens, 0, 0)
        case {"error": {"message": message}}:
            return {"error": message}
        case {
            "choices": [{"finish_reason": reason, "message": {"content": text}}],
            "usage": {
                "prompt_tokens": tokens,
                "completion_tokens": output,
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        }:
            # It does not say whether the end of the turn or a stop text ended the answer.
            return _result(text, "length" if reason == "length" else "end", tokens, cached, output)
        case _:
            return {"error": "llama.cpp replied in an unknown form"}


def _result(
    text: "JsonValue",
    stop_reason: str,
    input_tokens: "JsonValue",
    cached_tokens: "JsonValue",
    output_tokens: "JsonValue",
) -> "dict[str, JsonValue]":
    return {
        "text": text,
        "stop_reason": stop_reason,
        "input_tokens": input_tokens,
        "cached_tokens": cached_tokens,
        "output_tokens": output_tokens,
    }


def _send(replies: IO[str], message: "dict[str, JsonValue]") -> None:
    try:
        replies.write(json.dumps(message) + "\n")
        replies.flush()
    except OSError:
        os._exit(1)  # the parent is gone


if __name__ == "__main__":
    main(sys.argv[1:])

"""The part of xllamacpp that this project uses; the package ships no types."""

import enum
from typing import TypeAlias

JsonValue: TypeAlias = bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None

class llama_flash_attn_type(enum.IntEnum):
    LLAMA_FLASH_ATTN_TYPE_AUTO = -1
    LLAMA_FLASH_ATTN_TYPE_DISABLED = 0
    LLAMA_FLASH_ATTN_TYPE_ENABLED = 1

class CommonParamsModel:
    path: str

class CpuParams:
    n_threads: int
    poll: int

class CommonParams:
    model: CommonParamsModel
    cpuparams: CpuParams
    cpuparams_batch: CpuParams
    n_ctx: int
    n_parallel: int
    n_batch: int
    n_ubatch: int
    n_gpu_layers: int
    n_threads_http: int
    cache_prompt: bool
    cache_ram_mib: int
    flash_attn_type: llama_flash_attn_type
    no_extra_bufts: bool
    ctx_shift: bool
    prefill_assistant: bool
    verbosity: int
    api_keys: list[str]
    endpoint_slots: bool
    ui: bool

class Server:
    def __init__(self, params: CommonParams) -> None: ...
    def handle_chat_completions(self, request: dict[str, JsonValue]) -> dict[str, JsonValue]: ...

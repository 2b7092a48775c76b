"""The content address of one completion: equal keys are one question, paid once.

At temperature 0 the same question asked by another workflow or example is the same key; at a higher
temperature the example and the run's seed join it, so that draws stay independent. A repeated
request within one execution is another draw (`ordinal`), as is another replicate of the test set;
for a model that answers deterministically both are left out at temperature 0.
"""

import hashlib
import json
from dataclasses import dataclass

from bayesflow_server.models.chat import ChatModel, ChatRequest

__all__ = ["CallContext", "completion_key", "sample_number"]


@dataclass(frozen=True, slots=True)
class CallContext:
    """Where a call comes from.

    Attributes:
        example: The row's id; joins the key above temperature 0.
        replicate: Which pass over the rows.
        ordinal: How many equal requests this execution made before.
        seed: The run's seed; joins the key above temperature 0.
        draw: Names an optimizer's draw; joins the key, with the seed, at every temperature, for
            N equal prompts are N draws. Empty for an executor's call.
    """

    example: str = ""
    replicate: int = 0
    ordinal: int = 0
    seed: int = 0
    draw: str = ""


def completion_key(model: ChatModel, request: ChatRequest, context: CallContext) -> str:
    """32 hexadecimal digits that name this draw of this question."""
    question: list[object] = [
        model.identity,
        # 0, 0.0 and -0.0 are one temperature, and must read alike.
        None if request.temperature is None else request.temperature + 0.0,
        request.max_tokens,
        list(request.stop),
        [[turn.role, turn.content] for turn in request.messages],
    ]
    if request.temperature != 0:
        question += [context.example, context.seed]
    if request.temperature != 0 or not model.deterministic:
        question += [context.replicate, context.ordinal]
    if context.draw:
        question += ["draw", context.draw, context.seed]
    text = json.dumps(question, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate, which a data set may hold, is hashed like any other character.
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def sample_number(key: str) -> int:
    """A seed for the provider's sampler: 31 bits of the key."""
    return int(key[:8], 16) & 0x7FFFFFFF

"""``call_llm``'s arguments, from the untrusted side: checked, then frozen.

The names and defaults are the paper's (its workflows call ``call_llm(messages=[...],
temperature=0.2, num_of_response=2, agent_role="...", instructions="...")``), plus ``stop`` and
``max_tokens``. A bad argument is a ``TypeError`` or ``ValueError`` that the door raises inside the
workflow, before anything else happens.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from bayesflow_sandbox.plain import Foreign

__all__ = ["LLMCall", "LLMTurn", "Role", "Tier", "parse_llm_call"]

Role = Literal["system", "user", "assistant"]
Tier = Literal["strong", "cheap"]

MAX_TEXT_BYTES: Final = 1_000_000
MAX_TURNS: Final = 1_000
MAX_RESPONSES: Final = 32
MAX_TEMPERATURE: Final = 2.0
MAX_TOKENS: Final = 131_072
MAX_STOPS: Final = 16
_PARAMETERS: Final[tuple[str, ...]] = (
    "messages",
    "temperature",
    "num_of_response",
    "agent_role",
    "instructions",
    "stop",
    "max_tokens",
    "tier",
)


@dataclass(frozen=True, slots=True)
class LLMTurn:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class LLMCall:
    """One checked call of ``call_llm``; equal calls are the same question.

    Attributes:
        turns: The conversation, at least one turn; a system turn, if any, comes first. Messages
            given as strings are one user turn, joined by newlines.
        temperature: 0 to 2, or None for the model's own.
        num_of_response: How many independent answers, 1 to 32.
        agent_role: Who the model is to be, or "".
        instructions: What it is to do, or "".
        stop: Texts that end the generation, at most 16.
        max_tokens: The most tokens to generate, 1 to 131,072, or None.
        tier: Which of the host's models is to answer, where it offers tiers; None: its usual one.
    """

    turns: tuple[LLMTurn, ...]
    temperature: float | None = None
    num_of_response: int = 1
    agent_role: str = ""
    instructions: str = ""
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    tier: Tier | None = None


def parse_llm_call(args: tuple[object, ...], kwargs: Mapping[str, object]) -> LLMCall:
    """Checks and normalises the arguments of one ``call_llm``.

    Raises:
        TypeError: An argument is missing, unknown, given twice or of the wrong type.
        ValueError: An argument is outside its range, or the texts exceed 1 MB together.
    """
    given = _bind(args, kwargs)
    call = LLMCall(
        turns=_turns(given["messages"]),
        temperature=_temperature(given.get("temperature")),
        num_of_response=_integer("num_of_response", given.get("num_of_response", 1), MAX_RESPONSES),
        agent_role=_text("agent_role", given.get("agent_role", "")),
        instructions=_text("instructions", given.get("instructions", "")),
        stop=_stop(given.get("stop")),
        max_tokens=_max_tokens(given.get("max_tokens")),
        tier=_tier(given.get("tier")),
    )
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in _texts(call))
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"call_llm(): {size} bytes of text, at most {MAX_TEXT_BYTES} are allowed")
    return call


def _bind(args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
    if len(args) > len(_PARAMETERS):
        raise TypeError(f"call_llm() takes at most {len(_PARAMETERS)} arguments, not {len(args)}")
    given: dict[str, object] = dict(zip(_PARAMETERS, args, strict=False))
    for name, value in kwargs.items():
        if name not in _PARAMETERS:
            known = ", ".join(_PARAMETERS)
            raise TypeError(f"call_llm() has no parameter {name[:40]!r}; it takes {known}")
        if name in given:
            raise TypeError(f"call_llm() got two values for {name!r}")
        given[name] = value
    if "messages" not in given:
        raise TypeError("call_llm() needs messages: a list of strings or of {role, content} turns")
    return given


def _turns(messages: object) -> tuple[LLMTurn, ...]:
    if not isinstance(messages, list | tuple):
        raise TypeError(f"call_llm(): messages must be a list, not {_kind(messages)}")
    items = cast("list[object]", messages)
    if not 1 <= len(items) <= MAX_TURNS:
        raise ValueError(f"call_llm(): messages must hold 1 to {MAX_TURNS} items, not {len(items)}")
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) == len(items):
        return (LLMTurn("user", "\n".join(texts)),)
    if texts:
        raise TypeError("call_llm(): messages must be all strings or all {role, content} turns")
    turns = tuple(_turn(item) for item in items)
    if any(turn.role == "system" for turn in turns[1:]):
        raise ValueError("call_llm(): a system turn must come first")
    return turns


def _turn(item: object) -> LLMTurn:
    if not isinstance(item, dict):
        raise TypeError(f"call_llm(): a message must be a string or a dict, not {_kind(item)}")
    turn = cast("dict[object, object]", item)
    if set(turn) != {"role", "content"}:
        raise TypeError("call_llm(): a turn has exactly the keys 'role' and 'content'")
    content = _text("content", turn["content"])
    match turn["role"]:
        case "system":
            return LLMTurn("system", content)
        case "user":
            return LLMTurn("user", content)
        case "assistant":
            return LLMTurn("assistant", content)
        case _:
            raise ValueError("call_llm(): a turn's role is 'system', 'user' or 'assistant'")


def _temperature(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"call_llm(): temperature must be a number or None, not {_kind(value)}")
    if not (0 <= value <= MAX_TEMPERATURE and math.isfinite(value)):
        raise ValueError(f"call_llm(): temperature must be between 0 and {MAX_TEMPERATURE:g}")
    return float(value)


def _integer(name: str, value: object, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"call_llm(): {name} must be an integer, not {_kind(value)}")
    if not 1 <= value <= high:
        raise ValueError(f"call_llm(): {name} must be between 1 and {high}")
    return int(value)


def _max_tokens(value: object) -> int | None:
    return None if value is None else _integer("max_tokens", value, MAX_TOKENS)


def _tier(value: object) -> Tier | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"call_llm(): tier must be a string or None, not {_kind(value)}")
    match value:
        case None | "strong" | "cheap":
            return value
        case _:
            raise ValueError("call_llm(): tier is 'strong', 'cheap' or None")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"call_llm(): {name} must be a string, not {_kind(value)}")
    return value


def _stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise TypeError(f"call_llm(): stop must be a string or a list of them, not {_kind(value)}")
    stops = tuple(_text("stop", item) for item in cast("list[object]", items)[: MAX_STOPS + 1])
    if len(stops) > MAX_STOPS or "" in stops:
        raise ValueError(f"call_llm(): stop takes at most {MAX_STOPS} texts, none empty")
    return stops


def _texts(call: LLMCall) -> list[str]:
    contents = [turn.content for turn in call.turns]
    return [*contents, call.agent_role, call.instructions, *call.stop]


def _kind(value: object) -> str:
    if isinstance(value, Foreign):
        return value.type_name
    return "None" if value is None else type(value).__name__

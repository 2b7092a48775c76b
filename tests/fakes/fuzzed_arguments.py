"""Arguments of tools as no client should send them, and some as one would; from their schemas.

A name in angle brackets (`<finished>`) stands for something that is there: whoever calls puts the
present id or path in its place.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from hypothesis import strategies as st
from pydantic import JsonValue

from fakes.mcp_sessions import WORKFLOW
from fakes.schema_values import values

__all__ = ["PLACEHOLDERS", "SCHEMAS", "addresses", "breaking", "fitting", "texts_by_name"]

_GOLDEN: Final = Path(__file__).parents[1] / "server" / "interface" / "tools.json"
# The input schema of every tool, as published.
SCHEMAS: Final[dict[str, dict[str, JsonValue]]] = {
    tool["name"]: tool["inputSchema"] for tool in json.loads(_GOLDEN.read_text(encoding="utf-8"))
}

PLACEHOLDERS: Final = (
    "<finished>",
    "<waiting>",
    "<cancelled>",
    "<workflow>",
    "<baseline>",
    "<evaluation>",
    "<answer>",
    "<proposal>",
    "<rows>",
    "<cursor>",
)

_MOST_CALLS: Final = 30
_MOST_WAIT: Final = 0.02
_MUTATIONS: Final = 2
# Of eight: how seldom what was drawn is kept where something real is known, and where it is not.
_DROPPED_FROM: Final = {True: 1, False: 3}
_DEPTH: Final = 120  # the client itself sends little more

_TEXTS: Final = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "",
            " ",
            "\x00",
            "a\x00b",
            "\ud83d",
            "half \udc00 of it",
            "\u202e\u2066",
            "null",
            "../../etc/passwd",
            "run_" + "0" * 12,
            "wf_" + "0" * 12,
            "'; DROP TABLE runs; --",
            "%s%n{0}",
            "x" * 250_000,
            "\n" * 2_000,
        ]
    ),
)
# The client cannot send half a character as a name.
_NAMES: Final = _TEXTS.filter(lambda text: not any("\ud800" <= one <= "\udfff" for one in text))
_NUMBERS: Final = st.sampled_from(
    [
        *(0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400),
        *(0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    ]
)


def _nested(depth: int) -> object:
    inner: object = 1
    for level in range(depth):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


_DEEP: Final = st.sampled_from([_nested(20), _nested(_DEPTH)])
_JUNK: Final = st.one_of(
    st.none(),
    st.booleans(),
    _NUMBERS,
    _TEXTS,
    _DEEP,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
        max_leaves=8,
    ),
)

_ROWS: Final = [
    {"input": f"What is {number} plus {number + 1}?", "target": str(2 * number + 1)}
    for number in range(16)
]
_BROKEN_SOURCE: Final = WORKFLOW.replace("await self.llm", "await open('/etc/passwd') + self.llm")
_RUNS: Final = st.sampled_from(["<finished>", "<waiting>", "<cancelled>"])
_WORKFLOWS: Final = st.sampled_from(["<workflow>", "<baseline>", WORKFLOW, _BROKEN_SOURCE])
_MODELS: Final = st.sampled_from(["scripted:default", "scripted:", "local:smollm2", "grammar"])
_ANSWERS: Final = st.lists(
    st.fixed_dictionaries(
        {"proposal_id": st.sampled_from(["<proposal>", "prop_1"]), "text": _TEXTS | _WORKFLOWS}
    ),
    min_size=1,
    max_size=3,
)
# What gets a call past the first look at its arguments.
_REAL: Final[Mapping[str, st.SearchStrategy[object]]] = {
    "run_id": _RUNS,
    "workflow_id": st.sampled_from(["<workflow>", "<baseline>"]),
    "evaluation_id": st.just("<evaluation>"),
    "answer_id": st.just("<answer>"),
    "workflow": _WORKFLOWS,
    "compare_with": _WORKFLOWS,
    "source": _WORKFLOWS,
    "baseline": _WORKFLOWS,
    "cursor": st.just("<cursor>"),
    "examples": st.sampled_from(["<rows>", _ROWS, _ROWS[:3]]),
    "instructions": st.just("Add the two numbers."),
    "executor": st.just("scripted:default"),
    "judge": _MODELS,
    "refiner": _MODELS,
    "optimizer": st.sampled_from(["grammar", "client"]),
    "preset": st.sampled_from(["quick", "client"]),
    "scorer": st.sampled_from(["numeric", "exact", {"kind": "numeric", "tolerance": 0.5}]),
    "answers": _ANSWERS,
    "input": st.just("What is 4 plus 5?"),
}


@st.composite
def fitting(draw: st.DrawFn, tool: str) -> dict[str, object]:
    """Arguments that fit the tool's schema, with a share of what is really there."""
    schema = SCHEMAS[tool]
    arguments = dict(draw(_BASES[tool]))
    required = schema.get("required", [])
    assert isinstance(required, list)
    for name in _properties(tool):
        choice = draw(st.integers(0, 7))
        if name in _REAL and choice >= 2:
            arguments[name] = draw(_REAL[name])
        elif choice >= _DROPPED_FROM[name in _REAL] and name not in required:
            arguments.pop(name, None)
    return _small(tool, arguments)


@st.composite
def breaking(draw: st.DrawFn, tool: str) -> dict[str, object]:
    """Arguments that a client would hardly send: a fitting set, spoiled in a place or two."""
    arguments = draw(fitting(tool))
    for _ in range(draw(st.integers(1, _MUTATIONS))):
        way = draw(st.integers(0, 5))
        names = list(arguments)
        if way == 0 and names:
            del arguments[draw(st.sampled_from(names))]
        elif way == 1:
            arguments[draw(_NAMES)] = draw(_JUNK)
        elif way == 2 and names:
            name = draw(st.sampled_from(names))
            arguments[name] = draw(st.sampled_from(_wrapped(arguments[name])))
        else:
            arguments[draw(st.sampled_from(_properties(tool)))] = draw(_JUNK)
    return _small(tool, arguments)


def addresses() -> st.SearchStrategy[str]:
    """Addresses of resources: right ones, nearly right ones, and others."""
    ids = st.sampled_from(["<finished>", "<waiting>", "<workflow>", "..", "", "%2e%2e", "a/b"])
    forms = ("runs", "runs/{}", "runs/{}/pool", "runs/{}/events", "workflows/{}", "runs/{}/no")
    ours = st.builds(
        _address,
        st.sampled_from(forms),
        ids | _NAMES,
        st.sampled_from(["", "", "/", "?a=1", "#a", "\x00"]),
    )
    return ours | _NAMES | st.sampled_from(["file:///etc/passwd", "bayesflow:", "http://[::1"])


def _address(form: str, one: str, more: str) -> str:
    return f"bayesflow://{form.replace('{}', one)}{more}"


def texts_by_name() -> st.SearchStrategy[dict[str, str]]:
    """Arguments of a prompt, of names that prompts have and of others."""
    names = st.sampled_from(["run_id", "workflow_id", "task", "examples", "executor", "budget"])
    real = st.sampled_from(["<finished>", "<workflow>", "scripted:default", "<rows>"])
    return st.dictionaries(names | _NAMES, real | _NAMES, max_size=4)


def _wrapped(value: object) -> list[object]:
    """A value in a form that is nearly right."""
    return [[value], {"value": value}, json.dumps(value, default=str), str(value).upper()]


def _properties(tool: str) -> list[str]:
    properties = SCHEMAS[tool]["properties"]
    assert isinstance(properties, dict)
    return list(properties)


def _small(tool: str, arguments: dict[str, object]) -> dict[str, object]:
    """The same where it would wait or spend for long: a short wait, few calls."""
    waits = "wait_seconds" in _properties(tool)
    if waits and _is_more(arguments.get("wait_seconds", 20), 0):
        arguments["wait_seconds"] = _MOST_WAIT
    budget = arguments.get("budget")
    if isinstance(budget, dict):
        limits = _dictionary(cast("JsonValue", budget))
        if limits.get("calls") is None or _is_more(limits["calls"], _MOST_CALLS):
            arguments["budget"] = limits | {"calls": _MOST_CALLS}
    return arguments


def _is_more(value: object, than: float) -> bool:
    """Whether it is a number that is more; one that is no number of JSON is to be sent as it is."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and than < value < float("inf")
    )


def _dictionary(value: JsonValue) -> dict[str, object]:
    assert isinstance(value, dict)
    return dict(value)


_BASES: Final[dict[str, st.SearchStrategy[dict[str, object]]]] = {
    tool: values(schema).map(_dictionary) for tool, schema in SCHEMAS.items()
}

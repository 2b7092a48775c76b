import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sandbox.llm_call import LLMCall, LLMTurn, parse_llm_call


def parse(*args: object, **kwargs: object) -> LLMCall:
    return parse_llm_call(args, kwargs)


def test_strings_become_one_user_turn() -> None:
    assert parse(["a", "b"]).turns == (LLMTurn("user", "a\nb"),)


def test_turns_keep_their_roles() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
    assert parse(messages=messages).turns == (
        LLMTurn("system", "s"),
        LLMTurn("user", "u"),
        LLMTurn("assistant", "a"),
    )


def test_defaults_are_the_paper_s() -> None:
    assert parse(["a"]) == LLMCall(turns=(LLMTurn("user", "a"),))


def test_arguments_may_be_positional_in_the_paper_s_order() -> None:
    call = parse(["a"], 1, 2, "role", "instructions", "stop", 9)
    assert call == LLMCall((LLMTurn("user", "a"),), 1.0, 2, "role", "instructions", ("stop",), 9)
    assert isinstance(call.temperature, float)


@pytest.mark.parametrize("tier", ["strong", "cheap", None])
def test_a_call_may_name_a_tier(tier: str | None) -> None:
    assert parse(["a"], tier=tier).tier == tier
    assert parse(["a"], None, 1, "", "", None, None, tier).tier == tier


@pytest.mark.parametrize("stop", [None, [], ()])
def test_no_stop_is_empty(stop: object) -> None:
    assert parse(["a"], stop=stop).stop == ()


Arguments = tuple[tuple[object, ...], dict[str, object]]

WRONG_TYPES: list[Arguments] = [
    ((), {}),
    (("a",), {}),
    ((None,), {}),
    (({"role": "user", "content": "x"},), {}),
    ((["a", {"role": "user", "content": "x"}],), {}),
    (([1],), {}),
    (([{"role": "user"}],), {}),
    (([{"role": "user", "content": "x", "name": "y"}],), {}),
    (([{"role": "user", "content": None}],), {}),
    (([{1: 2}],), {}),
    ((["a"], "0.5"), {}),
    ((["a"], True), {}),
    ((["a"],), {"num_of_response": 2.0}),
    ((["a"],), {"num_of_response": True}),
    ((["a"],), {"agent_role": None}),
    ((["a"],), {"instructions": ["x"]}),
    ((["a"],), {"stop": 1}),
    ((["a"],), {"stop": [1]}),
    ((["a"],), {"max_tokens": 1.5}),
    ((["a"],), {"model": "other"}),
    ((["a"],), {"messages": ["b"]}),
    ((["a"], 0, 1, "", "", None, 1, 2), {}),
    ((["a"], 0, 1, "", "", None, 1, "cheap", 2), {}),
    ((["a"],), {"tier": ["strong"]}),
    ((["a"],), {"tier": True}),
]

OUT_OF_RANGE: list[Arguments] = [
    (([],), {}),
    ((["a"] * 1001,), {}),
    ((["é" * 500_001],), {}),
    ((["a"],), {"instructions": "x" * 1_000_000}),
    (([{"role": "tool", "content": "x"}],), {}),
    (([{"role": ["user"], "content": "x"}],), {}),
    (([{"role": "user", "content": "x"}, {"role": "system", "content": "x"}],), {}),
    ((["a"], -0.1), {}),
    ((["a"], 2.1), {}),
    ((["a"], float("nan")), {}),
    ((["a"], 10**400), {}),
    ((["a"],), {"num_of_response": 0}),
    ((["a"],), {"num_of_response": 33}),
    ((["a"],), {"max_tokens": 0}),
    ((["a"],), {"max_tokens": 10**9}),
    ((["a"],), {"stop": ""}),
    ((["a"],), {"stop": ["x"] * 17}),
    ((["a"],), {"tier": "medium"}),
    ((["a"],), {"tier": ""}),
    ((["a"],), {"tier": "Strong"}),
]


@pytest.mark.parametrize(("args", "kwargs"), WRONG_TYPES)
def test_a_wrong_type_is_a_type_error(args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"call_llm\(\)"):
        parse_llm_call(args, kwargs)


@pytest.mark.parametrize(("args", "kwargs"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_a_value_error(
    args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=r"call_llm\(\)"):
        parse_llm_call(args, kwargs)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3)
)
NAMES = st.sampled_from(
    [
        "messages",
        "temperature",
        "num_of_response",
        "agent_role",
        "instructions",
        "stop",
        "tier",
        "other",
    ]
)


@given(st.lists(ANYTHING, max_size=3), st.dictionaries(NAMES, ANYTHING, max_size=4))
def test_whatever_comes_is_a_call_within_bounds_or_one_of_two_errors(
    args: list[object], kwargs: dict[str, object]
) -> None:
    try:
        call = parse_llm_call(tuple(args), kwargs)
    except (TypeError, ValueError):
        return
    assert call.turns
    assert 1 <= call.num_of_response <= 32
    assert call.temperature is None or 0 <= call.temperature <= 2
    assert hash(call) == hash(call)

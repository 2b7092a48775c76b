import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sandbox.outcome import JsonValue, ReturnValue, answer_of
from bayesflow_sandbox.plain import NotPlainError, TooLargeError, plain_value, without_surrogates

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_passes_unchanged(value: JsonValue) -> None:
    assert plain_value(value, 1 << 20) == value


LARGE: list[object] = ["a" * 99, "é" * 50, ["a"] * 40, {"a" * 60: "b" * 40}, [["a"]] * 40]


@pytest.mark.parametrize("value", LARGE)
def test_size_is_bounded(value: object) -> None:
    with pytest.raises(TooLargeError):
        plain_value(value, 100)
    assert plain_value(value, 1_000) == value


def test_only_the_outer_tuple_stays_a_tuple() -> None:
    assert plain_value((("a", 1), 0.5), 100) == (["a", 1], 0.5)


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"x", 1j, float("inf"), {1: 2}, {None: 1}, [..., 1], 2**1025, ValueError()],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(NotPlainError):
        plain_value(value, 1 << 20)


def test_shared_references_are_counted_as_often_as_they_are_seen() -> None:
    value: object = ["x"]
    for _ in range(25):
        value = [value, value]
    with pytest.raises(TooLargeError):
        plain_value(value, 1 << 16)


def test_depth_is_bounded() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(NotPlainError):
        plain_value(value, 1 << 20)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("text", "text"),
        (("text", 0.1), "text"),
        ((4.0, 0.1), "4.0"),
        (7, "7"),
        (True, "True"),
        (None, ""),
        ((), ""),
        ((None, 0.0), ""),
        (["a", 1], '["a", 1]'),
        (({"é": 1}, 0.1), '{"é": 1}'),
    ],
)
def test_the_answer_is_text(value: ReturnValue, answer: str) -> None:
    assert answer_of(value) == answer


def test_surrogates_are_replaced_at_every_depth() -> None:
    assert without_surrogates({"a\ud800": ["\udfff", 1, None]}) == {"a?": ["?", 1, None]}

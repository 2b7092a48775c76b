"""Bytes that a sandboxed process may send: noise, damaged values, messages almost right."""

import struct
from typing import Final

from hypothesis import strategies as st

from bayesflow_sandbox.locked.channel import KINDS
from bayesflow_sandbox.locked.codec import encode
from bayesflow_sandbox.plain import Foreign

__all__ = ["TAGS", "bodies", "damaged", "frame", "streams", "tagged"]

TAGS: Final = b"NTFifcsbltezdo"

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=0, max_value=1 << 5000),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.text(st.characters(categories=["Cs"])),
    st.binary(max_size=40),
    st.builds(Foreign, st.text(max_size=20)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
        st.dictionaries(st.integers(), inner, max_size=3),
        st.frozensets(st.integers(), max_size=4),
    ),
    max_leaves=12,
)
names = st.sampled_from(["call_llm", "get_usage_summary", "expected", "__class__", ""])
keywords = st.dictionaries(st.sampled_from(["messages", "stop", "tier", "x"]), values, max_size=3)
loose_text = st.one_of(st.text(max_size=9), st.text(st.characters(categories=["Cs"]), max_size=3))
questions = st.fixed_dictionaries(
    {"messages": st.lists(loose_text, min_size=1, max_size=2)},
    optional={"stop": loose_text, "agent_role": loose_text, "temperature": scalars},
)
messages = st.one_of(
    values,
    st.tuples(st.integers(), st.just("call_llm"), st.just(()), questions).map(list),
    st.tuples(st.integers(), names, values.map(lambda value: (value,)), keywords).map(list),
    st.tuples(st.text(max_size=20), st.text(max_size=99), st.lists(st.integers())).map(list),
    st.tuples(st.sampled_from(["memory_bytes", "run_seconds", "wall", ""]), st.lists(scalars)).map(
        list
    ),
)
tagged = st.lists(
    st.one_of(st.sampled_from([bytes((tag,)) for tag in TAGS]), st.binary(max_size=6)), max_size=60
).map(b"".join)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid value with a byte flipped, a part cut out, or a part twice."""
    data = bytearray(encode(draw(values), 1 << 20))
    at, to = sorted(draw(st.tuples(*2 * (st.integers(0, len(data)),))))
    match draw(st.sampled_from(["flip", "cut", "twice"])):
        case "flip" if at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        case "cut":
            del data[at:to]
        case _:
            data[to:to] = data[at:to]
    return bytes(data)


bodies = st.one_of(messages.map(lambda value: encode(value, 1 << 20)), damaged(), tagged)


def frame(kind: int, body: bytes, claimed: int | None = None) -> bytes:
    return struct.pack(">IB", len(body) if claimed is None else claimed, kind) + body


frames = st.one_of(
    st.builds(frame, st.sampled_from(sorted(KINDS)), bodies),
    st.builds(frame, st.just(ord("C")), bodies),
    st.builds(frame, st.integers(0, 255), bodies, st.integers(0, (1 << 32) - 1)),
    st.binary(max_size=20),
)
streams = st.lists(frames, max_size=6).map(b"".join)

"""A dataset: rows from a file or inline, checked once, with what was guessed and what is odd.

After `load_dataset` every row has an id of its own, a text to show a workflow, and, if any row has
one, an expected answer. `task.py` splits the rows and scores against them.
"""

import gc
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import blake2b
from json.encoder import encode_basestring
from typing import NamedTuple, cast

from pydantic import JsonValue

from bayesflow_sandbox.llm_call import MAX_TEXT_BYTES
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import (
    Example,
    Row,
    Split,
    Target,
    render_inputs,
    value_text,
)
from bayesflow_server.evaluation.fields import FieldMap, resolve_fields
from bayesflow_server.evaluation.formats import Table, read_table
from bayesflow_server.excerpt import quoted

__all__ = ["MAX_INLINE_ROWS", "Dataset", "InlineRow", "dataset_of", "load_dataset"]

MAX_INLINE_ROWS = 200

InlineRow = Example | Mapping[str, JsonValue]

_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False)

_SPLIT_NAMES: Mapping[str, Split] = {
    "demonstration": "demonstration",
    "train": "demonstration",
    "validation": "validation",
    "dev": "validation",
    "val": "validation",
    "selection": "selection",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """Checked rows, in the order of the file.

    Attributes:
        rows: At least one; ids are unique.
        fields: Our name → their field, as resolved.
        guesses: One sentence for each thing that was guessed.
        warnings: One sentence for each thing that is odd but usable.
        content_hash: 32 hex digits; the same for the same rows in any order.
    """

    rows: tuple[Row, ...]
    fields: Mapping[str, str]
    guesses: tuple[str, ...]
    warnings: tuple[str, ...]
    content_hash: str


def load_dataset(
    examples: str | Sequence[InlineRow], fields: Mapping[str, str] | None = None
) -> Dataset:
    """Loads rows from the file at an absolute path, or takes them inline (at most 200).

    Args:
        examples: The path, or the rows.
        fields: Our name → their name, for ``input``, ``target``, ``id``, ``split``, ``group`` and
            named inputs (any other name). What is left out is guessed.

    Raises:
        InputError: One sentence that says what is wrong, in which row, and what to do.
    """
    with _uncollected():
        table = read_table(examples) if isinstance(examples, str) else _inline_table(examples)
        return _dataset(table, fields)


def dataset_of(
    rows: Sequence[Mapping[str, JsonValue]], source: str, fields: Mapping[str, str] | None = None
) -> Dataset:
    """Checks rows that a program has read, any number of them.

    Args:
        rows: As they would stand in a file.
        source: What to call them in a message.
        fields: Our name → their name, as in `load_dataset`.

    Raises:
        InputError: As `load_dataset`.
    """
    numbers = range(1, len(rows) + 1)
    return _dataset(Table(rows=rows, numbers=numbers, noun="row", source=source), fields)


def _dataset(table: Table, fields: Mapping[str, str] | None) -> Dataset:
    field_map = resolve_fields(table, fields)
    used = field_map.used()
    names = _Names(table)
    rows: list[Row] = []
    digests: list[str] = []
    for index in range(len(table.rows)):
        draft = _draft(table, index, field_map, used)
        digests.append(digest := _digest(draft, table, index))
        name = names.take(index, draft.id, digest)
        _, problem, target, inputs, split, group, meta = draft
        rows.append(Row(name, problem, target, inputs, split, group, meta))
    return Dataset(
        rows=tuple(rows),
        fields=field_map.as_mapping(),
        guesses=field_map.guesses,
        warnings=(*names.warnings(), *_length_warnings(rows)),
        content_hash=blake2b("".join(sorted(digests)).encode(), digest_size=16).hexdigest(),
    )


def _length_warnings(rows: Sequence[Row]) -> Generator[str]:
    """One sentence if rows are longer than a call of a model may be."""
    most = MAX_TEXT_BYTES
    # A character has at most four bytes: most rows need not be encoded.
    long = [row.problem for row in rows if len(row.problem) > most // 4]
    count = sum(len(problem.encode()) > most for problem in long)
    if count:
        yield (
            f"{count} of {len(rows)} rows have inputs longer than {most:,} bytes, which no "
            "workflow can pass to a model whole: shorten them."
        )


@contextmanager
def _uncollected() -> Generator[None]:
    """Looks for no cycles meanwhile: rows make none, and looking takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _inline_table(examples: Sequence[InlineRow]) -> Table:
    if not examples:
        raise InputError("The inline examples are empty: pass at least two rows, or a file's path.")
    if len(examples) > MAX_INLINE_ROWS:
        raise InputError(
            f"{len(examples)} inline examples are more than {MAX_INLINE_ROWS}: write them to a "
            "JSONL file and pass its absolute path."
        )
    rows: list[Mapping[str, JsonValue]] = [
        row.model_dump(exclude_unset=True) if isinstance(row, Example) else row for row in examples
    ]
    return Table(rows=rows, numbers=range(1, len(rows) + 1), noun="row", source="the inline rows")


class _Draft(NamedTuple):
    """A row before it has an id of its own; `id` is empty where the dataset gives none."""

    id: str
    problem: str
    target: Target
    inputs: Mapping[str, str]
    split: Split | None
    group: str | None
    meta: dict[str, JsonValue]


def _draft(table: Table, index: int, fields: FieldMap, used: frozenset[str]) -> _Draft:
    raw = table.rows[index]
    problem, inputs = _input(table, index, fields)
    meta, group = _meta(raw, fields.group, used)
    return _Draft(
        _name(table, index, fields.id) if fields.id in raw else "",
        problem,
        None if fields.target is None else _target(table, index, fields.target),
        inputs,
        None if fields.split is None else _split(table, index, fields.split),
        group,
        meta,
    )


def _value(table: Table, index: int, ours: str, theirs: str) -> JsonValue:
    raw = table.rows[index]
    if theirs in raw:
        return raw[theirs]
    has = ", ".join(quoted(name) for name in list(raw)[:12]) or "nothing"
    role = "" if theirs == ours else f" for {quoted(ours)}"
    raise InputError(
        f"{_at(table, index)} lacks the field {quoted(theirs)}{role} (it has {has}): add it, or "
        "name "
        "the right field in `fields`."
    )


def _at(table: Table, index: int) -> str:
    place = table.place(index)
    return place[0].upper() + place[1:]


def _input(table: Table, index: int, fields: FieldMap) -> tuple[str, Mapping[str, str]]:
    """The text a workflow receives, and the named inputs behind it (empty for a plain text)."""
    inputs: dict[str, str] = {}
    if fields.input is None:
        for ours, theirs in fields.named.items():
            inputs[ours] = value_text(_value(table, index, ours, theirs))
    else:
        value = _value(table, index, "input", fields.input)
        if isinstance(value, str) and value and not value.isspace():
            return value, inputs
        if isinstance(value, list):
            raise InputError(
                f"The input in {table.place(index)} is a list: write a text or an object of named "
                "texts."
            )
        if not isinstance(value, dict):
            text = "" if value is None else value_text(value)
            if not text.strip():
                raise InputError(
                    f"The input in {table.place(index)} is empty: write it, or remove the row."
                )
            return text, inputs
        inputs = {name: value_text(text) for name, text in value.items()}
    if not any(text.strip() for text in inputs.values()):
        raise InputError(
            f"All inputs in {table.place(index)} are empty: write them, or remove the row."
        )
    return render_inputs(inputs), inputs


def _target(table: Table, index: int, field: str) -> Target:
    value = _value(table, index, "target", field)
    return None if isinstance(value, str) and not value.strip() else value


def _split(table: Table, index: int, field: str) -> Split | None:
    value = table.rows[index].get(field)
    if value is None or value == "":
        return None
    name = str(value).strip().lower()
    if name not in _SPLIT_NAMES:
        hint = get_close_matches(name, _SPLIT_NAMES, n=1)
        raise InputError(
            f"The split {quoted(value)} in {table.place(index)} is unknown"
            + (f" (did you mean {quoted(hint[0])}?)" if hint else "")
            + ": use demonstration (or train), validation (or dev, val), selection or test."
        )
    return _SPLIT_NAMES[name]


def _name(table: Table, index: int, field: str | None) -> str:
    value = table.rows[index].get(field) if field is not None else None
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise InputError(
            f"The id in {table.place(index)} is neither text nor a whole number: give every row "
            "one, or none."
        )
    return str(value)


def _meta(
    raw: Mapping[str, JsonValue], group_field: str | None, used: frozenset[str]
) -> tuple[dict[str, JsonValue], str | None]:
    """All fields without another meaning, those of ``meta`` itself beside them; and the group."""
    meta = {name: value for name, value in raw.items() if name not in used}
    if isinstance(inner := meta.get("meta"), dict):
        del meta["meta"]
        meta |= inner
    group = raw.get(group_field) if group_field is not None else meta.get("group")
    return meta, None if group is None or group == "" else value_text(group)


def _digest(row: _Draft, table: Table, index: int) -> str:
    """16 hex digits of the row as canonical JSON: sorted names, no escapes but JSON's own."""
    name, problem, target, _, split, group, meta = row
    content = (
        f"[{encode_basestring(name)}, {encode_basestring(problem)}, {_json(target)}, "
        f"{'null' if split is None else _json(split)}, "
        f"{'null' if group is None else _json(group)}, {_json(meta)}]"
    )
    try:
        encoded = content.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{_at(table, index)} holds half of a surrogate pair, which is no character: remove "
            "the stray \\ud8… escape."
        ) from None
    return blake2b(encoded, digest_size=8).hexdigest()


def _json(value: JsonValue) -> str:
    """As `_CANONICAL`, which is slow to start, for what most rows hold."""
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, dict):
        try:
            pairs = [
                f"{encode_basestring(name)}: {encode_basestring(cast(str, value[name]))}"
                for name in sorted(value)
            ]
        except TypeError:  # not all are texts
            return _CANONICAL.encode(value)
        return "{" + ", ".join(pairs) + "}"
    return "null" if value is None else _CANONICAL.encode(value)


class _Names:
    """Gives a content-made id to rows without one, and refuses ids that repeat."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._first: dict[str, int] = {}
        self._copies: dict[str, int] = {}

    def take(self, index: int, given: str, digest: str) -> str:
        """The id of the next row.

        Raises:
            InputError: Another row has it.
        """
        name = given
        if not name:
            copies = self._copies[digest] = self._copies.get(digest, 0) + 1
            name = digest if copies == 1 else f"{digest}-{copies}"
        first = self._first.setdefault(name, index)
        if first != index:
            raise self._repeated(name, first, index, given=bool(given))
        return name

    def warnings(self) -> tuple[str, ...]:
        """One sentence if rows repeat others word for word."""
        repeated = sum(self._copies.values()) - len(self._copies)
        if not repeated:
            return ()
        if repeated == 1:
            told = "A row of {} repeats another word for word; both stay"
        else:
            told = f"{repeated} rows of {{}} repeat another row word for word; they stay"
        return (f"{told.format(self._table.source)} in one split but count double.",)

    def _repeated(self, name: str, first: int, index: int, *, given: bool) -> InputError:
        table = self._table
        if given:
            return InputError(
                f"{table.noun.capitalize()}s {table.numbers[first]} and {table.numbers[index]} of "
                f"{table.source} have the same id {quoted(name)}: give each row an id of its own, "
                "or "
                "none at all."
            )
        return InputError(
            f"The id {quoted(name)} of {table.place(first)} looks like one that this server makes "
            "for "
            "rows without: rename it, or remove all ids."
        )

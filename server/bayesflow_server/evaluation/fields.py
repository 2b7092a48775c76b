"""Which of a dataset's fields is which: the caller's mapping, or a guess that is said aloud.

A mapping goes from our name to theirs. Ours are ``input``, ``target``, ``id``, ``split`` and
``group``; any other name is a named input, and then there is no ``input``. `dataset.py` calls this.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.formats import Table
from bayesflow_server.excerpt import quoted

__all__ = ["FieldMap", "resolve_fields"]

_INPUT_NAMES = ("input", "question", "problem", "prompt", "text")
_TARGET_NAMES = ("target", "answer", "label", "output", "expected")
_OWN_NAMES = ("input", "target", "id", "split", "group")


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Where each part of a row is found.

    Attributes:
        input: The field of the one input, or None where there are named inputs.
        named: Our name → their field, for named inputs, in rendering order.
        target: The field of the expected answer, or None.
        id: The field of the row's id, or None.
        split: The field of the row's split, or None.
        group: The field of the row's group, or None (``meta.group`` still counts).
        guesses: One sentence for each thing that was guessed.
    """

    input: str | None
    named: Mapping[str, str]
    target: str | None
    id: str | None
    split: str | None
    group: str | None
    guesses: tuple[str, ...]

    def as_mapping(self) -> dict[str, str]:
        """Our name → their name, as it can be passed again as `fields`."""
        own = {
            "input": self.input,
            "target": self.target,
            "id": self.id,
            "split": self.split,
            "group": self.group,
        }
        return {name: theirs for name, theirs in own.items() if theirs is not None} | {**self.named}

    def used(self) -> frozenset[str]:
        """Their fields that have a meaning; all others become meta data."""
        return frozenset(self.as_mapping().values())


def resolve_fields(table: Table, fields: Mapping[str, str] | None) -> FieldMap:
    """Completes the caller's mapping by guessing what it leaves open.

    Raises:
        InputError: The mapping names a field no row has, or no input can be found.
    """
    given = dict(fields or {})
    counts = Counter(name for row in table.rows for name in row)
    for ours, theirs in given.items():
        if theirs not in counts:
            hint = get_close_matches(theirs, list(counts), n=1)
            raise InputError(
                f"No row of {table.source} has the field {quoted(theirs)} that `fields` names for "
                f"{quoted(ours)}: the rows have {_names(counts)}"
                + (f" (did you mean {quoted(hint[0])}?)." if hint else ".")
            )
    named = {ours: theirs for ours, theirs in given.items() if ours not in _OWN_NAMES}
    if named and "input" in given:
        raise InputError(
            f"`fields` names both 'input' and the named inputs {_names(named)}: give either one "
            "'input' or named inputs."
        )
    guesses: list[str] = []
    taken = set(given.values())
    input_field = given.get("input")
    if input_field is None and not named:
        input_field = _guess("input", _INPUT_NAMES, counts, taken, guesses)
        if input_field is None:
            raise InputError(
                f"The rows of {table.source} have no field that looks like an input (they have "
                f'{_names(counts)}): name it, e.g. fields={{"input": "{_first(counts)}"}} '
                "(--field input=… on the command line)."
            )
        taken.add(input_field)
    target = given.get("target") or _guess("target", _TARGET_NAMES, counts, taken, guesses)
    found = FieldMap(
        input=input_field,
        named=named,
        target=target,
        id=given.get("id", "id" if "id" in counts else None),
        split=given.get("split", "split" if "split" in counts else None),
        # A column that merely happens to be called "group" must not tie rows together.
        group=given.get("group"),
        guesses=(),
    )
    unseen = [name for name in counts if name not in found.used() and name != "meta"]
    if unseen and guesses:
        guesses.append(
            f"No workflow sees {_names(unseen)}; to show one, map it in `fields` as a named input."
        )
    return replace(found, guesses=tuple(guesses))


def _guess(
    ours: str,
    candidates: tuple[str, ...],
    counts: Mapping[str, int],
    taken: set[str],
    guesses: list[str],
) -> str | None:
    """The candidate most rows have, the earlier one on a tie; our own name is no guess."""
    ranked = sorted(
        (-count, candidates.index(name.lower()), name)
        for name, count in counts.items()
        if name.lower() in candidates and name not in taken
    )
    if not ranked:
        return None
    theirs = ranked[0][2]
    if theirs != ours:
        guesses.append(f"Field {quoted(theirs)} was taken as the {ours}.")
    return theirs


def _names(names: Mapping[str, object] | list[str]) -> str:
    shown = [quoted(name) for name in list(names)[:12]]
    return ", ".join(shown) + (", …" if len(names) > 12 else "")


def _first(names: Mapping[str, object]) -> str:
    return quoted(next(iter(names), "…"))[1:-1]

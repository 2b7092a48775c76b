"""What a solution answered, rebuilt in the judge's process; the rule for what is no plain data.

    an iterator      an iterator over its items (at most 10,000)
    ``re.Match``     an object with its groups and spans, true
    anything else    an ``Opaque`` object: true, equal to nothing but itself

Inside lists and dicts there is only "anything else". Used by ``judge``; the forms are made by
``solution``, but whatever comes from there may be anything at all.
"""

import builtins
from typing import Any, Final, cast

from bayesflow_sandbox.plain import Foreign

__all__ = ["Match", "Opaque", "SolutionError", "error_of", "value_of"]

_MAX_NOTES: Final = 20
# Ends loops without an error, so a solution that raises it could end a test in the middle.
_NOT_RAISED: Final = (StopIteration, StopAsyncIteration)


class SolutionError(Exception):
    """The solution raised something that is no exception of Python's own."""


class Opaque:
    """A value that is no plain data: true, and equal to nothing but itself."""

    def __init__(self, type_name: str) -> None:
        self._type_name = type_name

    def __repr__(self) -> str:
        return f"<{self._type_name} object>"


class Match(Opaque):
    """A ``re.Match`` by its groups and spans."""

    def __init__(self, groups: list[object], spans: list[Any], named: dict[str, object]) -> None:
        super().__init__("re.Match")
        self._groups = groups
        self._spans = spans
        self._named = named

    def group(self, *which: int | str) -> object:
        """The text of one group, or a tuple of several."""
        found = [self[number] for number in which or (0,)]
        return found[0] if len(found) == 1 else tuple(found)

    def groups(self) -> tuple[object, ...]:
        """The texts of all groups but the whole."""
        return tuple(self._groups[1:])

    def groupdict(self) -> dict[str, object]:
        """The named groups."""
        return dict(self._named)

    def span(self, group: int = 0) -> object:
        """Where a group is."""
        return self._spans[group]

    def start(self, group: int = 0) -> object:
        """Where a group begins."""
        return self._spans[group][0]

    def end(self, group: int = 0) -> object:
        """Where a group ends."""
        return self._spans[group][1]

    def __getitem__(self, group: int | str) -> object:
        return self._named[group] if isinstance(group, str) else self._groups[group]


def value_of(told: object) -> object:
    """Returns what a function of the solution returned: ``[form, value, type]``.

    Raises:
        ValueError, TypeError, IndexError, KeyError: It is nothing of the kind.
    """
    form, value, name = cast("list[Any]", told)
    match form:
        case "iterator":
            return iter(list(value))
        case "match":
            groups, spans, named = value
            return Match(list(groups), [(span[0], span[1]) for span in spans], dict(named))
        case _:
            return Opaque(str(name)[:80]) if isinstance(value, Foreign) else value


def error_of(told: object) -> BaseException:
    """Returns what a function of the solution raised: ``[type, message, traceback lines]``.

    Python's own exceptions keep their class, so that a test can expect them.

    Raises:
        ValueError, TypeError, IndexError, KeyError: It is nothing of the kind.
    """
    kind, message, frames = cast("list[Any]", told)
    known = getattr(builtins, kind, None) if isinstance(kind, str) else None
    error: BaseException
    if (
        isinstance(known, type)
        and issubclass(known, Exception)
        and not issubclass(known, (*_NOT_RAISED, UnicodeError, ExceptionGroup))
    ):
        error = known(str(message))
    else:
        error = SolutionError(f"{kind}: {message}")
    for frame in frames[:_MAX_NOTES]:
        error.add_note(str(frame)[:400])
    return error

"""Statements, and the one place where a record type meets its table.

A `Table` takes its column list from the record's fields, in order. So a SELECT and the constructor
it feeds agree by construction, and a column that the schema lacks fails in the first test.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from bayesflow_server.store.records import Unset

__all__ = ["Assignments", "Record", "Row", "SqlValue", "Statement", "Table", "assignments"]

SqlValue = str | int | float | None
# Values come out of SQLite untyped; STRICT tables guarantee their types, records name them.
Row = Sequence[Any]


class DataclassLike(Protocol):
    """Any dataclass instance."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Record = TypeVar("Record", bound=DataclassLike)


class Statement(NamedTuple):
    """One SQL statement and its parameters.

    Attributes:
        sql: The text, with ``?`` for each parameter.
        parameters: One value for each ``?``.
        repeat: If given, runs once for each of these parameter tuples instead, and returns no rows.
    """

    sql: str
    parameters: tuple[SqlValue, ...] = ()
    repeat: tuple[tuple[SqlValue, ...], ...] | None = None


class Assignments(NamedTuple):
    """The part of an UPDATE after SET, and its parameters."""

    sql: str
    parameters: tuple[SqlValue, ...]


def assignments(**changes: SqlValue | Unset) -> Assignments:
    """Returns the assignments of the columns that are given, leaving out those that are `UNSET`."""
    given = {name: value for name, value in changes.items() if not isinstance(value, Unset)}
    return Assignments(", ".join(f'"{name}" = ?' for name in given), tuple(given.values()))


class Table(Generic[Record]):
    """Maps a record type to a table whose columns carry the names of its fields.

    Attributes:
        columns: The quoted column list, in the order of the fields.
    """

    def __init__(self, name: str, record: type[Record]) -> None:
        self._name = name
        self._record = record
        fields = dataclasses.fields(record)
        self._names = tuple(field.name for field in fields)
        self._flags = tuple(i for i, field in enumerate(fields) if field.type is bool)
        self.columns = ", ".join(f'"{name}"' for name in self._names)

    def select(self, rest: str = "") -> str:
        """Returns a SELECT of all columns; ``rest`` is what follows the table's name."""
        return f"SELECT {self.columns} FROM {self._name} {rest}"

    def __len__(self) -> int:
        """The number of columns."""
        return len(self._names)

    def columns_of(self, alias: str) -> str:
        """Returns the column list of the table under an alias, for a join."""
        return ", ".join(f'{alias}."{name}"' for name in self._names)

    def insert(self, record: Record, on_conflict: str = "") -> Statement:
        """Returns the statement that inserts one record."""
        return Statement(self._insert_sql(self._names, on_conflict), self.values(record))

    def replace(self, record: Record) -> Statement:
        """Returns the statement that inserts one record in place of the one under its key."""
        return self.insert(
            record,
            "ON CONFLICT DO UPDATE SET "
            + ", ".join(f'"{name}" = excluded."{name}"' for name in self._names),
        )

    def insert_all(self, records: Iterable[Record], **fixed: SqlValue) -> Statement:
        """Returns the statement that inserts all records, with the same extra columns in each."""
        extra = tuple(fixed.values())
        names = (*fixed, *self._names)
        values = tuple((*extra, *self.values(record)) for record in records)
        return Statement(self._insert_sql(names, ""), repeat=values)

    def values(self, record: Record) -> tuple[SqlValue, ...]:
        """Returns the record's values in column order."""
        return tuple(getattr(record, name) for name in self._names)

    def load(self, row: Row) -> Record:
        """Builds the record from a row of `columns`."""
        values = list(row)
        for flag in self._flags:
            values[flag] = bool(values[flag])
        return self._record(*values)

    def _insert_sql(self, names: Sequence[str], on_conflict: str) -> str:
        columns = ", ".join(f'"{name}"' for name in names)
        marks = ", ".join("?" * len(names))
        return f"INSERT INTO {self._name} ({columns}) VALUES ({marks}) {on_conflict}"

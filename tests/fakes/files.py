"""A database file, changed behind the server's back."""

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["change"]


def change(path: Path, *statements: str) -> None:
    """Runs the statements in one transaction, as another program would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)

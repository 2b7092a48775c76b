"""Database files as earlier versions left them."""

from pathlib import Path
from typing import Final

from fakes.files import change

__all__ = ["downgrade"]

# What each migration added, undone; the latest first.
_UNDONE: Final = {
    4: (
        "DROP TRIGGER run_begins",
        "DROP TRIGGER run_changes",
        "DROP TRIGGER round_ends",
        "DROP TABLE events",
        "ALTER TABLE runs DROP COLUMN takeovers",
    ),
    3: ("ALTER TABLE executions DROP COLUMN trace",),
    2: (
        "DROP TABLE proposals",
        "DROP TABLE submissions",
        "ALTER TABLE executions DROP COLUMN outcomes",
        "ALTER TABLE summaries DROP COLUMN reward",
    ),
}


def downgrade(path: Path, version: int) -> None:
    """Takes from the file all that came after that version of the schema."""
    for number, statements in _UNDONE.items():
        if number > version:
            change(path, *statements)
    change(path, f"PRAGMA user_version = {version}")

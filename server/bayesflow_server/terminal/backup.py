"""`backup`: a copy of the database while others write to it."""

from pathlib import Path

from bayesflow_server.settings import Settings
from bayesflow_server.store.housekeeping import copy_database
from bayesflow_server.terminal.screen import megabytes, open_console, say, write_json

__all__ = ["backup"]


def backup(settings: Settings, file: Path, *, as_json: bool) -> int:
    """Copies the database into a new file, and says what is in it."""
    target = file.expanduser().absolute()
    copied = copy_database(settings.db, target)
    if as_json:
        write_json(
            {
                "database": str(settings.db),
                "file": str(target),
                "bytes": copied.size,
                "runs": copied.runs,
            }
        )
        return 0
    console = open_console()
    runs = "1 run" if copied.runs == 1 else f"{copied.runs} runs"
    say(console, f"wrote {target}: {runs}, {megabytes(copied.size)}, checked", whole=True)
    say(console, f"Look into it: bayesflow-mcp --db {target} runs", whole=True)
    return 0

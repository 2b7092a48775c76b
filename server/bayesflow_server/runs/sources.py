"""A workflow as a caller names it: an id, its source, or an exported script (its text or its path).

What comes back is the workflow's source. Whether it may run is for the policy to say.
"""

import asyncio
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bayesflow_server.errors import InputError, NotFoundError
from bayesflow_server.excerpt import excerpt
from bayesflow_server.runs.exported import workflow_in

if TYPE_CHECKING:
    from bayesflow_server.store.store import Store

__all__ = ["LONGEST_SOURCE", "source_given", "stored_source"]

LONGEST_SOURCE: Final = 200_000
_LONGEST_PATH: Final = 4_096
_SHOWN: Final = 200


async def source_given(given: str, store: "Store") -> str:
    """The source of the workflow that `given` stands for.

    Raises:
        NotFoundError: It is an id that is unknown.
        InputError: It is a path, and there is no file that can be read.
    """
    if _names_file(given):
        given = await asyncio.to_thread(_read, given)
    elif "\n" not in given:
        return await stored_source(given, store)
    return workflow_in(given) or given


async def stored_source(workflow: str, store: "Store") -> str:
    """The source behind a workflow id, or what was given if it is none.

    Raises:
        NotFoundError: The id is unknown.
    """
    if "\n" in workflow or not workflow.startswith("wf_"):
        return workflow
    record = await store.workflow(workflow)
    if record is None:
        raise NotFoundError(
            f"There is no workflow {workflow!r}. Call get_pool to see a run's workflow ids."
        )
    return record.source


def _names_file(given: str) -> bool:
    if "\n" in given or len(given) > _LONGEST_PATH or not given.endswith(".py"):
        return False
    if not Path(given).is_absolute():
        raise InputError(
            f"The path '{excerpt(given, _SHOWN)}' is not absolute: hosts start servers in "
            "arbitrary folders, so pass the full path of the workflow's file, or its text."
        )
    return True


def _read(path: str) -> str:
    """The text of a regular file of a bounded size."""
    name = f"'{excerpt(path, _SHOWN)}'"
    try:
        with open(path, "rb", opener=_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{name} is not a regular file; pass the path of a Python file.")
            content = file.read(LONGEST_SOURCE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such path"
        raise InputError(
            f"The workflow's file {name} cannot be read ({reason}): pass the absolute path of a "
            "file on the server's machine, or the source itself."
        ) from None
    if len(content) > LONGEST_SOURCE:
        raise InputError(f"{name} is longer than {LONGEST_SOURCE:,} bytes; no workflow is.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8 text; pass a Python file.") from None


def _at_once(path: str, flags: int) -> int:
    """Opens without waiting: a named pipe would hold us until somebody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

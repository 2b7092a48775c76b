"""`prune`: runs and old answers of models deleted, after a person has seen what would go."""

import asyncio
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bayesflow_server.errors import InputError, NotFoundError, StoreError
from bayesflow_server.runs.lease import Lease
from bayesflow_server.settings import Settings
from bayesflow_server.store.housekeeping import Housekeeper, Share
from bayesflow_server.store.records import RunCursor, RunRecord, RunStatus
from bayesflow_server.store.store import Store
from bayesflow_server.terminal.exit_codes import DONE, UNFINISHED
from bayesflow_server.terminal.screen import (
    cell,
    date,
    make_table,
    megabytes,
    open_console,
    say,
    write_json,
)

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["PruneFlags", "prune"]

_PAGE: Final = 100
_SHOWN: Final = 30
_NAME: Final = 40
_UNITS: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_AT_WORK: Final = ("queued", "running", "waiting_for_client")


@dataclass(frozen=True)
class PruneFlags:
    """What the command line says, unchecked.

    Attributes:
        run_ids: Runs by id; with any, age and status only narrow them.
        older_than: Runs untouched for so long, such as 30d; or None.
        statuses: Runs with one of these; empty for all.
        cache_older_than: Answers of models older than this, too; or None.
        dry_run: Only show what would go.
        yes: Do not ask.
        json: JSON on stdout, everything else on stderr.
    """

    run_ids: tuple[str, ...]
    older_than: str | None
    statuses: tuple[str, ...]
    cache_older_than: str | None
    dry_run: bool
    yes: bool
    json: bool


@dataclass(frozen=True)
class _Chosen:
    """A run that would go."""

    record: RunRecord
    status: RunStatus
    size: int


@dataclass
class _Outcome:
    """What was done."""

    runs: list[str] = field(default_factory=list[str])
    taken_up: list[str] = field(default_factory=list[str])
    completions: int = 0
    workflows: int = 0
    given_back: int = 0
    kept: str | None = None


def prune(settings: Settings, flags: PruneFlags) -> int:
    """Deletes what the flags choose, if the person agrees."""
    if not (flags.run_ids or flags.older_than or flags.statuses or flags.cache_older_than):
        raise InputError(
            "Say what is to go: ids of runs, --older-than 30d, --status failed, or "
            "--cache-older-than 90d."
        )
    now = time.time()
    oldest = None if flags.older_than is None else now - _seconds(flags.older_than)
    answers = None if flags.cache_older_than is None else now - _seconds(flags.cache_older_than)
    records = asyncio.run(_records(settings, flags))
    lease = Lease(settings.db)
    console = open_console(stderr=flags.json)
    with Housekeeper(settings.db) as keeper:
        chosen = _choose(records, flags, oldest, lease, keeper)
        share = Share(0, 0) if answers is None else keeper.old_completions(answers)
        _show(console, chosen, share)
        if flags.dry_run or not (chosen or share.records):
            return _end(console, flags, chosen, share, None)
        if not _agreed(console, flags):
            say(console, "Nothing was deleted.")
            return UNFINISHED
        outcome = _delete(keeper, chosen, answers)
        _give_back(keeper, records, lease, outcome)
    return _end(console, flags, chosen, share, outcome)


def _seconds(age: str) -> float:
    """An age such as 30d in seconds.

    Raises:
        InputError: It is none.
    """
    found = re.fullmatch(r"(\d{1,6})([mhdw])", age.strip())
    if found is None:
        raise InputError(f"'{age}' is no age: write e.g. 30d, 12h, 2w or 90m.")
    return int(found[1]) * _UNITS[found[2]]


async def _records(settings: Settings, flags: PruneFlags) -> list[RunRecord]:
    """Every run of the database; those named must be among them."""
    if not settings.db.exists():
        raise StoreError(f"There is no database {settings.db}; name one with --db or BAYESFLOW_DB.")
    records: list[RunRecord] = []
    async with await Store.open(settings.db) as store:
        cursor = None
        while True:
            page = await store.runs(_PAGE, cursor)
            records += page
            if len(page) < _PAGE:
                break
            cursor = RunCursor(page[-1].created, page[-1].run_id)
    known = {record.run_id for record in records}
    for run_id in flags.run_ids:
        if run_id not in known:
            raise NotFoundError(
                f"There is no run {run_id!r} in {settings.db}; `bayesflow-mcp runs` lists those "
                "that are. Nothing was deleted."
            )
    return records


def _works(record: RunRecord, lease: Lease) -> bool:
    """Whether a process has the run in hand, be it to stop it."""
    return lease.is_alive(record.owner, record.heartbeat)


def _choose(
    records: Sequence[RunRecord],
    flags: PruneFlags,
    oldest: float | None,
    lease: Lease,
    keeper: Housekeeper,
) -> list[_Chosen]:
    """The runs that would go: none that works.

    Raises:
        InputError: One that works was named.
    """
    if not (flags.run_ids or flags.statuses or oldest is not None):
        return []
    chosen: list[_Chosen] = []
    for record in records:
        if flags.run_ids and record.run_id not in flags.run_ids:
            continue
        works = _works(record, lease)
        if works and flags.run_ids:
            raise InputError(
                f"{record.run_id} works; stop it first: bayesflow-mcp cancel {record.run_id}. "
                "Nothing was deleted."
            )
        status = record.status if works or record.status not in _AT_WORK else "interrupted"
        if (
            works
            or (flags.statuses and status not in flags.statuses)
            or (oldest is not None and record.updated > oldest)
        ):
            continue
        chosen.append(_Chosen(record, status, keeper.weigh(record.run_id)))
    return chosen


def _show(console: "Console", chosen: Sequence[_Chosen], share: Share) -> None:
    if chosen:
        table = make_table("These would go", ["run", "touched", "status", "name"], ["takes about"])
        for one in chosen[:_SHOWN]:
            record = one.record
            table.add_row(
                cell(record.run_id),
                date(record.updated),
                cell(one.status),
                cell(record.name or "", _NAME),
                megabytes(one.size),
            )
        console.print(table)
        more = f", of which {_SHOWN} are shown" if len(chosen) > _SHOWN else ""
        say(console, f"{_count(len(chosen), 'run')}{more}, {megabytes(_size(chosen))} about.")
    if share.records:
        say(
            console,
            f"{_count(share.records, 'answer')} of models, {megabytes(share.size)} about; a run "
            "that is resumed pays again for those it needs.",
        )
    if not (chosen or share.records):
        say(console, "Nothing is to go.")


def _agreed(console: "Console", flags: PruneFlags) -> bool:
    """Whether the person wants it.

    Raises:
        InputError: There is nobody to ask.
    """
    if flags.yes:
        return True
    if not sys.stdin.isatty():
        raise InputError("Nobody can be asked here; with --yes it is done. Nothing was deleted.")
    console.print("Delete this for good? \\[y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _delete(keeper: Housekeeper, chosen: Sequence[_Chosen], answers: float | None) -> _Outcome:
    outcome = _Outcome()
    for one in chosen:
        gone = keeper.delete_run(one.record)
        (outcome.runs if gone else outcome.taken_up).append(one.record.run_id)
    if answers is not None:
        outcome.completions = keeper.delete_completions(answers)
    if outcome.runs:
        outcome.workflows = keeper.delete_workflows()
    return outcome


def _give_back(
    keeper: Housekeeper, records: Sequence[RunRecord], lease: Lease, outcome: _Outcome
) -> None:
    """Makes the file smaller, unless a run would have to wait for that."""
    if any(_works(record, lease) for record in records):
        outcome.kept = "a run works, and would have to wait"
        return
    try:
        outcome.given_back = keeper.give_back()
    except StoreError as error:
        outcome.kept = str(error)


def _end(
    console: "Console",
    flags: PruneFlags,
    chosen: Sequence[_Chosen],
    share: Share,
    outcome: _Outcome | None,
) -> int:
    done = outcome or _Outcome()
    if flags.json:
        write_json(
            {
                "chosen": [
                    {
                        "run_id": one.record.run_id,
                        "name": one.record.name,
                        "status": one.status,
                        "updated": one.record.updated,
                        "bytes": one.size,
                    }
                    for one in chosen
                ],
                "answers": {"count": share.records, "bytes": share.size},
                "deleted": outcome is not None,
                "deleted_runs": done.runs,
                "taken_up": done.taken_up,
                "deleted_answers": done.completions,
                "deleted_workflows": done.workflows,
                "bytes_given_back": done.given_back,
                "not_given_back": done.kept,
            }
        )
    elif outcome is not None:
        _tell(console, outcome)
    return UNFINISHED if done.taken_up else DONE


def _tell(console: "Console", outcome: _Outcome) -> None:
    parts = [
        (outcome.runs, _count(len(outcome.runs), "run")),
        (outcome.workflows, f"{_count(outcome.workflows, 'workflow')} that no run has any more"),
        (outcome.completions, f"{_count(outcome.completions, 'answer')} of models"),
    ]
    said = ", ".join(text for told, text in parts if told) or "nothing"
    if outcome.kept is None:
        say(console, f"Deleted {said}; the file is {megabytes(outcome.given_back)} smaller.")
    else:
        say(
            console,
            f"Deleted {said}. New runs will use the space; it did not go back to the disk: "
            f"{outcome.kept}",
        )
    for run_id in outcome.taken_up:
        say(console, f"{run_id} was taken up meanwhile, and stays.", "yellow")


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _size(chosen: Sequence[_Chosen]) -> int:
    return sum(one.size for one in chosen)

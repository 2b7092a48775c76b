"""`bayesflow-mcp`: an MCP server without arguments, and the commands of a terminal.

`terminal.teaching` says what the commands are, `terminal.flags` what they take,
`terminal.exit_codes` how they end. Heavy imports wait for the command that needs them: most often,
this is the MCP server.
"""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from bayesflow_server.errors import ServerError
from bayesflow_server.settings import Settings, read_settings
from bayesflow_server.terminal.command_line import read_command_line
from bayesflow_server.terminal.exit_codes import INTERRUPTED, UNFINISHED, code_of
from bayesflow_server.terminal.flags import SERVING
from bayesflow_server.terminal.screen import printable

if TYPE_CHECKING:
    from bayesflow_server.terminal.request import RunArguments

__all__ = ["main"]

# New containers before a garbage collection while a server starts: what it imports stays, and to
# look through it again and again would be a tenth of its start. `app` sets what holds for its work.
_IMPORTING: Final = 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    options = read_command_line(arguments)
    try:
        return _COMMANDS[options.command or "serve"](options, _settings(options))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has left; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNFINISHED
    except Exception as error:
        if not _expected(error):
            raise
        sys.stderr.write(f"bayesflow-mcp: {printable(str(error))}\n")
        return code_of(error)


def _expected(error: Exception) -> bool:
    """Whether the error was raised on purpose, with a sentence for a person."""
    if isinstance(error, ServerError):
        return True
    from bayesflow_sandbox.errors import SandboxError  # here: the server starts without it

    return isinstance(error, SandboxError)


def _settings(options: argparse.Namespace) -> Settings:
    """The settings; a wrong flag ends every command, and the server before its first answer."""
    from bayesflow_server.evaluation.scorer_file import parse_scorer_files
    from bayesflow_server.models.endpoints import parse_endpoints

    settings = read_settings(
        options.db,
        options.log,
        endpoints=options.endpoint or (),
        scorers=options.scorer_file or (),
        **{name: getattr(options, name) for name in SERVING if hasattr(options, name)},
    )
    parse_endpoints(settings.endpoints)
    parse_scorer_files(settings.scorers)
    return settings


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    gc.set_threshold(_IMPORTING)
    from bayesflow_server.terminal.serve import serve_command

    return serve_command(settings)


def _worker(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal.worker import worker

    return worker(settings, once=options.once, as_json=options.json)


def _check(options: argparse.Namespace, settings: Settings) -> int:
    from pathlib import Path

    from bayesflow_server.terminal.check import CheckOutput, check

    write = None if options.write is None else Path(options.write)
    output = CheckOutput(options.judge_agreement, options.json, write)
    return check(settings, _run_arguments(options), output)


def _run(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal import commands

    return commands.run(
        settings, _run_arguments(options), commands.Output(options.out, options.json)
    )


def _resume(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal import commands

    output = commands.Output(options.out, options.json)
    return commands.resume(settings, options.run_id, output, _budget_flags(options))


def _show(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal import commands

    return commands.show(settings, options.run_id, commands.Output(options.out, options.json))


def _wait(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal.waiting import wait

    return wait(settings, options.run_id, timeout=options.timeout, as_json=options.json)


def _cancel(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal.waiting import cancel

    return cancel(settings, options.run_id, as_json=options.json)


def _runs(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal.listing import list_runs

    return list_runs(settings, limit=options.limit, statuses=options.status, as_json=options.json)


def _bench(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal.bench import bench
    from bayesflow_server.terminal.bench_flags import bench_flags

    return bench(settings, bench_flags(options), _budget_flags(options))


def _plot(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal.plot import plot

    return plot(
        settings, options.run_id, folder=options.out, kinds=options.kind, as_json=options.json
    )


def _prune(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal.prune import PruneFlags, prune

    flags = PruneFlags(
        run_ids=tuple(options.run_ids),
        older_than=options.older_than,
        statuses=tuple(options.status or ()),
        cache_older_than=options.cache_older_than,
        dry_run=options.dry_run,
        yes=options.yes,
        json=options.json,
    )
    return prune(settings, flags)


def _backup(options: argparse.Namespace, settings: Settings) -> int:
    from pathlib import Path

    from bayesflow_server.terminal.backup import backup

    return backup(settings, Path(options.file), as_json=options.json)


def _pull(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal.pull import pull_command

    return pull_command(options.model, options.gguf, as_json=options.json)


def _doctor(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.models.endpoints import parse_endpoints
    from bayesflow_server.terminal.doctor import doctor_command

    return doctor_command(settings, parse_endpoints(settings.endpoints), as_json=options.json)


_COMMANDS: Final[dict[str, Callable[[argparse.Namespace, Settings], int]]] = {
    "serve": _serve,
    "worker": _worker,
    "check": _check,
    "run": _run,
    "resume": _resume,
    "wait": _wait,
    "cancel": _cancel,
    "bench": _bench,
    "runs": _runs,
    "show": _show,
    "plot": _plot,
    "prune": _prune,
    "backup": _backup,
    "pull": _pull,
    "doctor": _doctor,
}


def _run_arguments(options: argparse.Namespace) -> "RunArguments":
    from pathlib import Path

    from bayesflow_server.terminal.request import RunArguments

    return RunArguments(
        task=Path(options.task),
        seed=options.seed,
        executor=options.executor,
        optimizer=options.optimizer,
        options=tuple(options.option),
        budget=_budget_flags(options),
        instructions=options.instructions,
        scorer=options.scorer,
        fields=tuple(options.field),
        preset=options.preset,
    )


def _budget_flags(options: argparse.Namespace) -> dict[str, float | None]:
    return {name: getattr(options, name) for name in ("usd", "calls", "tokens", "minutes")}


if __name__ == "__main__":
    raise SystemExit(main())

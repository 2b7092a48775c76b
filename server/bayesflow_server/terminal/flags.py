"""The flags of each command."""

import argparse
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, get_args

from bayesflow_server.plots.kinds import PlotKind
from bayesflow_server.run_status import RUN_STATUSES
from bayesflow_server.terminal.bench_flags import add_bench_flags

__all__ = ["KINDS", "SERVING", "add_flags", "add_serving", "add_shared", "meant"]

# Flags of `serve`; without a command they are the server's, too.
SERVING: Final = ("read_only", "tools", "auto_resume", "confirm_above")
KINDS: Final[tuple[PlotKind, ...]] = get_args(PlotKind)
_JSON: Final = "print one JSON document on stdout, all else on stderr"

_Parser: TypeAlias = argparse.ArgumentParser


def add_flags(command: str, parser: _Parser) -> None:
    """Declares everything that a command takes."""
    for add in _OF_COMMANDS[command]:
        add(parser)
    # Taken before and after the command; the one after wins, if it is there.
    add_shared(parser, argparse.SUPPRESS)


def meant(given: str, known: Sequence[str]) -> str:
    """Asks whether the known name that is nearest to a given one was meant; empty if none is."""
    from difflib import get_close_matches  # only where something is wrong

    begun = [name for name in known if name.startswith(given)] if len(given) > 3 else []
    close = get_close_matches(given, begun or known, n=1, cutoff=0.3 if begun else 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def add_shared(parser: _Parser, default: str | None) -> None:
    """Declares what every command takes, with a default for all of it."""
    group = parser.add_argument_group("every command")
    group.add_argument(
        "--db",
        default=default,
        metavar="FILE",
        help="database file (else BAYESFLOW_DB, or the platform's folder for data)",
    )
    group.add_argument(
        "--endpoint",
        action="extend",
        nargs=1,
        default=default,
        metavar="NAME=URL",
        help="a model endpoint, e.g. ollama=http://127.0.0.1:11434/v1 (repeatable; after the URL "
        "[,key=VARIABLE][,...]; models are then NAME:MODEL; see docs/models.md)",
    )
    group.add_argument(
        "--scorer-file",
        action="extend",
        nargs=1,
        default=default,
        metavar="NAME=PATH",
        help="a Python file you trust that defines score(answer, target, row); tasks name it as "
        'scorer {"kind": "file", "name": NAME} (repeatable)',
    )
    group.add_argument(
        "--log",
        default=default,
        metavar="LEVEL",
        help="log level on stderr: DEBUG, INFO, WARNING (default), ERROR",
    )


def add_serving(parser: _Parser) -> None:
    """Declares the flags of the server; one that was not given leaves no attribute."""
    group = parser.add_argument_group("the server")
    group.add_argument(
        "--read-only",
        action="store_true",
        default=argparse.SUPPRESS,
        help="offer only tools that change and spend nothing",
    )
    group.add_argument(
        "--tools",
        action="extend",
        type=_names,
        default=argparse.SUPPRESS,
        metavar="A,B,...",
        help="offer only these tools (repeatable)",
    )
    group.add_argument(
        "--no-auto-resume",
        dest="auto_resume",
        action="store_false",
        default=argparse.SUPPRESS,
        help="leave runs alone whose process is gone",
    )
    group.add_argument(
        "--confirm-above",
        type=float,
        default=argparse.SUPPRESS,
        metavar="USD",
        help="ask the user before a request that may spend more (else BAYESFLOW_CONFIRM_ABOVE, "
        "or 10)",
    )


def _add_once(parser: _Parser) -> None:
    group = parser.add_argument_group("working")
    group.add_argument("--once", action="store_true", help="end when no run is left to work on")


def _add_check(parser: _Parser) -> None:
    group = parser.add_argument_group("the check")
    group.add_argument(
        "--judge-agreement",
        action="store_true",
        help="ask the judge to grade known answers; this spends, at most the budget",
    )
    group.add_argument("--write", metavar="FILE", help="write a task.toml (never over another)")


def _add_run(parser: _Parser) -> None:
    parser.add_argument("run_id", metavar="RUN", help="id of a run, or `latest`")


def _add_timeout(parser: _Parser) -> None:
    group = parser.add_argument_group("waiting")
    group.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="wait at most so long (default: no end)"
    )


def _add_listed(parser: _Parser) -> None:
    group = parser.add_argument_group("which")
    group.add_argument(
        "--limit", type=int, default=50, metavar="N", help="at most so many (default: 50)"
    )
    group.add_argument("--status", action="extend", type=_statuses, metavar="A,B,...", help=_STATUS)


def _add_plotted(parser: _Parser) -> None:
    group = parser.add_argument_group("files")
    group.add_argument(
        "--out", metavar="FOLDER", help="where the files go (default: a folder named by the run)"
    )
    group.add_argument(
        "--kind",
        action="extend",
        type=_kinds,
        metavar="A,B,...",
        help=f"some of {', '.join(KINDS)} (default: all)",
    )


def _add_pruned(parser: _Parser) -> None:
    parser.add_argument("run_ids", metavar="RUN", nargs="*", help="ids of runs")
    which = parser.add_argument_group("which")
    which.add_argument(
        "--older-than", metavar="AGE", help="runs untouched for so long: 30d, 12h, 2w"
    )
    which.add_argument("--status", action="extend", type=_statuses, metavar="A,B,...", help=_STATUS)
    which.add_argument(
        "--cache-older-than",
        metavar="AGE",
        help="answers of models, too; a resumed run pays again for those it needs",
    )
    how = parser.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="only show what would go")
    how.add_argument("--yes", action="store_true", help="do not ask")


def _add_copied(parser: _Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="where the copy goes; nothing may be there")


def _add_pulled(parser: _Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="smollm2, or a name of your own with --gguf")
    parser.add_argument(
        "--gguf", metavar="FILE", help="register this GGUF file instead of fetching one"
    )


def _add_task(parser: _Parser) -> None:
    parser.add_argument(
        "task",
        metavar="TASK",
        help="a task file, e.g. examples/arithmetic/task.toml, or JSONL, JSON or CSV data",
    )
    group = parser.add_argument_group("the task")
    group.add_argument("--instructions", metavar="TEXT", help="what a workflow is to do, in words")
    group.add_argument("--scorer", help="a scorer's kind, or an object in JSON (default: guessed)")
    group.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="a field of the data, e.g. target=answer (repeatable; default: guessed)",
    )
    search = parser.add_argument_group("the search")
    search.add_argument(
        "--executor", metavar="MODEL", help="model that the workflows call, e.g. local:smollm2"
    )
    search.add_argument(
        "--optimizer",
        metavar="MODEL",
        help="what writes workflows: a model, grammar, or client (an agent, over MCP)",
    )
    search.add_argument(
        "--preset", choices=("quick", "balanced", "paper", "client"), help="named settings"
    )
    search.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one of the sampler's options, e.g. particles=20 (repeatable)",
    )
    search.add_argument("--seed", type=int, help="seed of every random draw (default: the file's)")


def _add_budget(parser: _Parser) -> None:
    group = parser.add_argument_group("the budget, in all")
    group.add_argument("--usd", type=float, help="US dollars at list price")
    group.add_argument("--tokens", type=int, help="tokens in and out")
    group.add_argument("--calls", type=int, help="calls that reach a model")
    group.add_argument("--minutes", type=float, help="minutes of running time")


def _add_folder(parser: _Parser) -> None:
    group = parser.add_argument_group("files")
    group.add_argument(
        "--out", metavar="FOLDER", help="for the best workflow, the report and the plots"
    )


def _add_json(parser: _Parser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help=_JSON)


def _names(text: str) -> list[str]:
    """Names with commas between."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _statuses(text: str) -> list[str]:
    return _known(text, RUN_STATUSES, "status of a run")


def _kinds(text: str) -> list[str]:
    return _known(text, KINDS, "kind of plot")


def _known(text: str, known: Sequence[str], what: str) -> list[str]:
    names = _names(text)
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"{name!r} is no {what}{meant(name, known) or '.'} There are {', '.join(known)}"
            )
    return names


_STATUS: Final = "runs with one of these statuses, e.g. finished,failed"

_OF_COMMANDS: Final[dict[str, tuple[Callable[[_Parser], None], ...]]] = {
    "serve": (add_serving,),
    "worker": (_add_once, _add_json),
    "check": (_add_task, _add_budget, _add_check, _add_json),
    "run": (_add_task, _add_budget, _add_folder, _add_json),
    "resume": (_add_run, _add_budget, _add_folder, _add_json),
    "wait": (_add_run, _add_timeout, _add_json),
    "cancel": (_add_run, _add_json),
    "bench": (add_bench_flags, _add_budget),
    "runs": (_add_listed, _add_json),
    "show": (_add_run, _add_folder, _add_json),
    "plot": (_add_run, _add_plotted, _add_json),
    "prune": (_add_pruned, _add_json),
    "backup": (_add_copied, _add_json),
    "pull": (_add_pulled, _add_json),
    "doctor": (_add_json,),
}

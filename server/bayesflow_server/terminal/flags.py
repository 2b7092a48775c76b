"""The command line: commands, flags, help. No heavy import: it is read at every start."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final, NoReturn

from bayesflow_server.terminal.bench_flags import add_bench_flags
from bayesflow_server.terminal.exit_codes import MEANINGS, TIMED_OUT, UNFINISHED, WRONG
from bayesflow_server.terminal.screen import printable
from bayesflow_server.terminal.teaching import CONNECT, FIRST, GROUPS, LESSONS, Lesson

__all__ = ["SERVING", "STATUSES", "read_command_line"]

_PROGRAM: Final = "bayesflow-mcp"
_WIDTH: Final = 78
_WIDEST: Final = 100
# Flags of `serve`; without a command they are the server's, too.
SERVING: Final = ("read_only", "tools", "auto_resume", "confirm_above")
STATUSES: Final = (
    "queued",
    "running",
    "waiting_for_client",
    "paused",
    "interrupted",
    "cancelled",
    "finished",
    "failed",
)
_RUN: Final = "id of a run, or `latest`"
_JSON: Final = "print one JSON document on stdout, all else on stderr"


def read_command_line(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for; ends the process where that is help, or wrong."""
    parser, commands = _parsers()
    options, unknown = parser.parse_known_args(arguments)
    asked = commands.get(options.command, parser)
    if unknown:
        asked.refuse(unknown)
    if options.command not in (None, "serve"):
        for name in SERVING:
            if hasattr(options, name):
                flag = "--no-auto-resume" if name == "auto_resume" else f"--{name}"
                asked.error(f"{flag.replace('_', '-')} belongs to the server, not to this command")
    return options


class _Help(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal, within reason."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns - 2, _WIDEST)
        super().__init__(prog, max_help_position=26, width=width)


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, and what may have been meant."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **settings)

    def error(self, message: str) -> NoReturn:
        """Ends the process with code 2."""
        told = printable(_with_hint(message))
        self.exit(WRONG, f"{self.prog}: {told}; see {self.prog} --help\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Ends the process for arguments that nothing takes."""
        flags = [one.partition("=")[0] for one in unknown if one.startswith("-")]
        if not flags:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        known = re.findall(r"(?<![\w-])--[a-z][a-z-]*", self.format_help())
        self.error(f"there is no flag {flags[0]}{_hint(flags[0], known)}")


def _with_hint(message: str) -> str:
    """The message of a wrong choice, with the choice that was meant."""
    found = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
    if found is None:
        return message
    hint = _hint(found[1], re.findall(r"[\w.]+", found[2]))
    return f"{message.partition(' (choose')[0]}{hint}" if hint else message


def _hint(given: str, known: Sequence[str]) -> str:
    begun = [name for name in known if name.startswith(given)] if len(given) > 3 else []
    close = get_close_matches(given, begun or known, n=1, cutoff=0.3 if begun else 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} [COMMAND] [FLAGS]",
        description=_front(),
        epilog=_back(),
    )
    _add_serving(parser)
    _add_shared(parser, None)
    listed = parser.add_subparsers(
        dest="command", metavar="COMMAND", parser_class=_Parser, help=argparse.SUPPRESS
    )
    commands = {
        name: listed.add_parser(
            name,
            prog=f"{_PROGRAM} {name}",
            usage=f"{_PROGRAM} {lesson.usage}",
            description=textwrap.fill(lesson.text, _WIDTH),
            epilog=_lesson_end(lesson),
        )
        for name, lesson in LESSONS.items()
    }
    _add_search(commands)
    _add_look(commands)
    _add_keep(commands)
    for command in commands.values():
        # Taken before and after the command; the one after wins, if it is there.
        _add_shared(command, argparse.SUPPRESS)
    return parser, commands


# --- what help says -------------------------------------------------------------------------


def _front() -> str:
    what = (
        "Samples LLM workflows from a posterior: give it examples with answers and a way to "
        "score, and it finds programs of LLM calls that answer well. Without a command it is the "
        "MCP server that coding agents start; every command has a --help of its own."
    )
    lines = [textwrap.fill(what, _WIDTH)]
    for group, title in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [
            f"  {name:<10}{lesson.short}"
            for name, lesson in LESSONS.items()
            if lesson.group == group
        ]
    return "\n".join([*lines, "", "begin with:", *_shown(FIRST)])


def _back() -> str:
    connect = (
        "connect an agent:",
        *_shown([CONNECT]),
        "  Any other client: the command is `bayesflow-mcp`, without arguments, on stdio.",
    )
    return "\n".join([*connect, "", *_codes(())])


def _lesson_end(lesson: Lesson) -> str:
    return "\n".join(
        ["examples:", *_shown(lesson.examples), "", *_codes(("0 done", *lesson.codes))]
    )


def _shown(commands: Sequence[str]) -> list[str]:
    """Commands to be copied: long ones go on behind a backslash."""
    shown: list[str] = []
    for command in commands:
        line = " "
        for part in re.split(r" (?=--)", command):
            if len(line) + len(part) > _WIDTH - 4:
                shown.append(f"{line} \\")
                line = "   "
            line = f"{line} {part}"
        shown.append(line)
    return shown


def _codes(own: Sequence[str]) -> list[str]:
    """The exit codes: those of this command first, in its own words."""
    told = {line.partition(" ")[0]: line.partition(" ")[2] for line in own}
    lines = ["exit codes:"]
    for code, meaning in MEANINGS.items():
        said = told.get(str(code), "" if code in (UNFINISHED, TIMED_OUT) and own else meaning)
        if said:
            lines.append(textwrap.fill(f"{code:>5}  {said}", _WIDTH, subsequent_indent=" " * 7))
    return lines


# --- flags ----------------------------------------------------------------------------------


def _add_shared(parser: argparse.ArgumentParser, default: str | None) -> None:
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


def _add_serving(parser: argparse.ArgumentParser) -> None:
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


def _add_search(commands: dict[str, _Parser]) -> None:
    _add_serving(commands["serve"])
    worker = commands["worker"].add_argument_group("working")
    worker.add_argument("--once", action="store_true", help="end when no run is left to work on")
    worker.add_argument("--json", action="store_true", help=_JSON)
    for name in ("check", "run"):
        _add_task(commands[name])
        _add_budget(commands[name])
    check = commands["check"].add_argument_group("output")
    check.add_argument(
        "--judge-agreement",
        action="store_true",
        help="ask the judge to grade known answers; this spends, at most the budget",
    )
    check.add_argument("--write", metavar="FILE", help="write a task.toml (never over another)")
    check.add_argument("--json", action="store_true", help=_JSON)
    _add_output(commands["run"])
    for name in ("resume", "wait", "cancel"):
        commands[name].add_argument("run_id", metavar="RUN", help=_RUN)
    _add_budget(commands["resume"])
    _add_output(commands["resume"])
    wait = commands["wait"].add_argument_group("waiting")
    wait.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="wait at most so long (default: no end)"
    )
    wait.add_argument("--json", action="store_true", help=_JSON)
    commands["cancel"].add_argument("--json", action="store_true", help=_JSON)
    add_bench_flags(commands["bench"])
    _add_budget(commands["bench"])


def _add_look(commands: dict[str, _Parser]) -> None:
    runs = commands["runs"].add_argument_group("which")
    runs.add_argument("--limit", type=int, default=50, help="at most so many (default: 50)")
    runs.add_argument(
        "--status", action="extend", type=_statuses, metavar="A,B,...", help=_status_help()
    )
    runs.add_argument("--json", action="store_true", help=_JSON)
    commands["show"].add_argument("run_id", metavar="RUN", help=_RUN)
    _add_output(commands["show"])


def _add_keep(commands: dict[str, _Parser]) -> None:
    prune = commands["prune"]
    prune.add_argument("run_ids", metavar="RUN", nargs="*", help="ids of runs")
    group = prune.add_argument_group("which")
    group.add_argument(
        "--older-than", metavar="AGE", help="runs untouched for so long: 30d, 12h, 2w"
    )
    group.add_argument(
        "--status", action="extend", type=_statuses, metavar="A,B,...", help=_status_help()
    )
    group.add_argument(
        "--cache-older-than",
        metavar="AGE",
        help="answers of models, too; a resumed run pays again for those it needs",
    )
    way = prune.add_argument_group("how")
    way.add_argument("--dry-run", action="store_true", help="only show what would go")
    way.add_argument("--yes", action="store_true", help="do not ask")
    way.add_argument("--json", action="store_true", help=_JSON)
    backup = commands["backup"]
    backup.add_argument("file", metavar="FILE", help="where the copy goes; nothing may be there")
    backup.add_argument("--json", action="store_true", help=_JSON)
    pull = commands["pull"]
    pull.add_argument("model", metavar="MODEL", help="smollm2, or a name of your own with --gguf")
    pull.add_argument(
        "--gguf", metavar="FILE", help="register this GGUF file instead of fetching one"
    )
    pull.add_argument("--json", action="store_true", help=_JSON)
    commands["doctor"].add_argument("--json", action="store_true", help=_JSON)


def _add_task(parser: argparse.ArgumentParser) -> None:
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


def _add_budget(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the budget, in all")
    group.add_argument("--usd", type=float, help="US dollars at list price")
    group.add_argument("--tokens", type=int, help="tokens in and out")
    group.add_argument("--calls", type=int, help="calls that reach a model")
    group.add_argument("--minutes", type=float, help="minutes of running time")


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", metavar="FOLDER", help="for the best workflow, the report and the plot"
    )
    group.add_argument("--json", action="store_true", help=_JSON)


def _names(text: str) -> list[str]:
    """Names with commas between."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _statuses(text: str) -> list[str]:
    names = _names(text)
    for name in names:
        if name not in STATUSES:
            hint = _hint(name, STATUSES)
            raise argparse.ArgumentTypeError(
                f"{name!r} is no status of a run{hint} There are {', '.join(STATUSES)}"
            )
    return names


def _status_help() -> str:
    return "runs with one of these statuses, e.g. finished,failed"

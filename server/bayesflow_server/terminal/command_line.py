"""The command line: what is asked, what help says, what was mistyped.

It is read at every start of the server, so it imports nothing heavy, and gives flags only to the
commands whose names occur in the arguments.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from bayesflow_server.terminal.exit_codes import MEANINGS, TIMED_OUT, UNFINISHED, WRONG
from bayesflow_server.terminal.flags import SERVING, add_flags, add_serving, add_shared, meant
from bayesflow_server.terminal.screen import printable
from bayesflow_server.terminal.teaching import CONNECT, FIRST, GROUPS, LESSONS, Lesson

__all__ = ["read_command_line"]

_PROGRAM: Final = "bayesflow-mcp"
_WIDTH: Final = 78
_WIDEST: Final = 100


def read_command_line(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for; ends the process where that is help, or wrong."""
    given = sys.argv[1:] if arguments is None else arguments
    parser, commands = _parsers(given)
    options, unknown = parser.parse_known_args(given)
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
        import shutil  # with several archive formats: not before help is asked for

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
        self.error(f"there is no flag {flags[0]}{meant(flags[0], known)}")


class _Version(argparse.Action):
    """Says the version and ends; it is looked up only if somebody asks."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        from importlib.metadata import version  # reads the installed package's files

        sys.stdout.write(f"{_PROGRAM} {version(_PROGRAM)}\n")
        parser.exit()


def _with_hint(message: str) -> str:
    """The message of a wrong choice, with the choice that was meant."""
    found = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
    if found is None:
        return message
    hint = meant(found[1], re.findall(r"[\w.]+", found[2]))
    return f"{message.partition(' (choose')[0]}{hint}" if hint else message


def _parsers(given: Sequence[str]) -> tuple[_Parser, dict[str, _Parser]]:
    """The parser of all, and that of each command."""
    parser = _Parser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} [COMMAND] [FLAGS]",
        description=_front(),
        epilog=_back(),
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    add_serving(parser)
    add_shared(parser, None)
    listed = parser.add_subparsers(
        # With a name, so that no usage need be formatted to make one.
        prog=_PROGRAM,
        dest="command",
        metavar="COMMAND",
        parser_class=_Parser,
        help=argparse.SUPPRESS,
    )
    commands: dict[str, _Parser] = {}
    for name, lesson in LESSONS.items():
        command = commands[name] = listed.add_parser(
            name,
            prog=f"{_PROGRAM} {name}",
            usage=f"{_PROGRAM} {lesson.usage}",
        )
        if name in given:
            command.description = textwrap.fill(lesson.text, _WIDTH)
            command.epilog = _lesson_end(lesson)
            add_flags(name, command)
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

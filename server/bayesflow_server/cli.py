"""`bayesflow-mcp`: serve (default) · run · check · resume · runs · show · bench · pull · doctor.

Exit codes: 0 done · 1 the run did not finish (its reason is printed) · 2 the request is wrong ·
130 or 143 stopped by Ctrl-C or SIGTERM. Heavy imports wait for the command that needs them: without
arguments this is the MCP server.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from bayesflow_server.errors import ServerError
from bayesflow_server.settings import Settings, read_settings
from bayesflow_server.terminal.bench_flags import add_bench_flags

if TYPE_CHECKING:
    from bayesflow_server.terminal.request import RunArguments

__all__ = ["main"]

_WRONG: Final = 2
_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings(
            options.db,
            options.log,
            endpoints=options.endpoint or (),
            scorers=options.scorer_file or (),
        )
        return _dispatch(options, settings)
    except ServerError as error:
        sys.stderr.write(f"bayesflow-mcp: {error}\n")
        return _WRONG
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has left; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.evaluation.scorer_file import parse_scorer_files
    from bayesflow_server.models.endpoints import parse_endpoints

    # Now: a wrong flag ends every command, and the server before its first answer.
    endpoints = parse_endpoints(settings.endpoints)
    parse_scorer_files(settings.scorers)
    if options.command in (None, "serve"):
        from bayesflow_server.app import Application
        from bayesflow_server.interface.stdio import serve

        return serve(Application(settings, hosted=True), settings)
    if options.command == "pull":
        from bayesflow_server.terminal.pull import pull_command

        return pull_command(options.model, options.gguf)
    if options.command == "doctor":
        from bayesflow_server.terminal.doctor import doctor_command

        return doctor_command(settings, endpoints)
    if options.command == "check":
        return _check(options, settings)
    return _dispatch_runs(options, settings)


def _dispatch_runs(options: argparse.Namespace, settings: Settings) -> int:
    from bayesflow_server.terminal import commands

    if options.command == "runs":
        return commands.list_runs(settings, json_output=options.json)
    output = commands.Output(options.out, options.json)
    if options.command == "bench":
        from bayesflow_server.terminal.bench import bench
        from bayesflow_server.terminal.bench_flags import bench_flags

        return bench(settings, bench_flags(options), _budget_flags(options))
    if options.command == "show":
        return commands.show(settings, options.run_id, output)
    if options.command == "resume":
        return commands.resume(settings, options.run_id, output, _budget_flags(options))
    return commands.run(settings, _run_arguments(options), output)


def _check(options: argparse.Namespace, settings: Settings) -> int:
    from pathlib import Path

    from bayesflow_server.terminal.check import CheckOutput, check

    write = None if options.write is None else Path(options.write)
    output = CheckOutput(options.judge_agreement, options.json, write)
    return check(settings, _run_arguments(options), output)


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


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with code 2."""
        self.exit(_WRONG, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    # Taken before and after the command; the one after wins, if it is there.
    shared = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_shared(shared)
    parser = _Parser(
        prog="bayesflow-mcp",
        description="Samples LLM workflows from a posterior. Without a command it serves MCP.",
    )
    _add_shared(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, help_text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=help_text, description=help_text.capitalize() + ".", parents=[shared]
        )

    command("serve", "serve MCP on stdin and stdout (the default)")
    run = command("run", "search a workflow for a task.toml or a data file, with progress")
    _add_task(run)
    _add_budget(run)
    _add_output(run)
    check = command("check", "look at a task.toml or a data file before anything is spent")
    _add_task(check)
    _add_budget(check)
    check.add_argument(
        "--judge-agreement",
        action="store_true",
        help="ask the judge to grade known answers; this spends, at most the budget",
    )
    check.add_argument("--write", metavar="FILE", help="write a task.toml (never over another)")
    check.add_argument("--json", action="store_true", help="print JSON for scripts")
    resume = command("resume", "go on with a run that stopped")
    resume.add_argument("run_id")
    _add_budget(resume)
    _add_output(resume)
    runs = command("runs", "list the newest runs in the database")
    runs.add_argument("--json", action="store_true", help="print JSON for scripts")
    show = command("show", "show a run: its pool, its best workflow, its scores")
    show.add_argument("run_id")
    _add_output(show)
    bench = command("bench", "measure the paper's tables on a benchmark")
    add_bench_flags(bench)
    _add_budget(bench)
    pull = command("pull", "fetch a local model's weights into the user's cache")
    pull.add_argument("model", help="smollm2, or a name of your own with --gguf")
    pull.add_argument("--gguf", help="register this GGUF file instead of fetching one")
    command("doctor", "say what this machine gives: models, sandbox, database")
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--db", help="database file (default: BAYESFLOW_DB or the data folder)")
    parser.add_argument(
        "--endpoint",
        action="extend",
        nargs=1,
        metavar="NAME=URL[,key=VARIABLE][,...]",
        help="a model endpoint, e.g. ollama=http://127.0.0.1:11434/v1 (repeatable; models are then "
        "NAME:MODEL; see docs/models.md)",
    )
    parser.add_argument(
        "--scorer-file",
        action="extend",
        nargs=1,
        metavar="NAME=PATH",
        help="a Python file you trust that defines score(answer, target, row); tasks name it as "
        'scorer {"kind": "file", "name": NAME} (repeatable)',
    )
    parser.add_argument("--log", help="log level on stderr: DEBUG, INFO, WARNING (default), ERROR")


def _add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task", help="a task file, e.g. examples/arithmetic/task.toml, or JSONL, JSON or CSV data"
    )
    parser.add_argument("--instructions", help="what a workflow is to do, in words")
    parser.add_argument("--scorer", help="a scorer's kind, or an object in JSON (default: guessed)")
    parser.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="a field of the data, e.g. target=answer (repeatable; default: guessed)",
    )
    parser.add_argument("--seed", type=int, help="seed of every random draw (default: the file's)")
    parser.add_argument("--executor", help="model that the workflows call, e.g. local:smollm2")
    parser.add_argument(
        "--optimizer",
        help="what writes workflows: a model, grammar, or client (an agent, over MCP)",
    )
    parser.add_argument("--preset", choices=("quick", "balanced", "paper", "client"))
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one of the sampler's options, e.g. particles=20 (repeatable)",
    )


def _add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--usd", type=float, help="budget: US dollars at list price, in all")
    parser.add_argument("--tokens", type=int, help="budget: tokens in and out, in all")
    parser.add_argument("--calls", type=int, help="budget: calls that reach a model, in all")
    parser.add_argument("--minutes", type=float, help="budget: minutes of running time, in all")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", help="folder for the best workflow, the report and the plot")
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


if __name__ == "__main__":
    raise SystemExit(main())

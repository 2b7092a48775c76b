"""`bayesflow-mcp`: serve (default) · run · runs · show · pull · doctor.

Exit codes: 0 done · 1 the run did not finish (its reason is printed) · 2 the request is wrong.
Heavy imports wait for the command that needs them: without arguments this is the MCP server.
"""

import argparse
import sys
from collections.abc import Sequence

from bayesflow_server.errors import ServerError
from bayesflow_server.settings import Settings, read_settings

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings(options.db, options.log)
        return _dispatch(options, settings)
    except ServerError as error:
        sys.stderr.write(f"bayesflow-mcp: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _dispatch(options: argparse.Namespace, settings: Settings) -> int:
    if options.command in (None, "serve"):
        from bayesflow_server.interface.stdio import serve

        return serve(settings)
    if options.command == "pull":
        from bayesflow_server.terminal.pull import pull_command

        return pull_command(options.model, options.gguf)
    if options.command == "doctor":
        from bayesflow_server.terminal.doctor import doctor_command

        return doctor_command(settings)
    from bayesflow_server.terminal import commands

    if options.command == "run":
        return commands.run(settings, commands.RunArguments.of(options))
    if options.command == "resume":
        return commands.resume(settings, options.run_id, options.out, json_output=options.json)
    if options.command == "runs":
        return commands.list_runs(settings, json_output=options.json)
    return commands.show(settings, options.run_id, options.out, json_output=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bayesflow-mcp",
        description="Samples LLM workflows from a posterior. Without a command it serves MCP.",
    )
    parser.add_argument("--db", help="database file (default: BAYESFLOW_DB or the data folder)")
    parser.add_argument("--log", help="log level on stderr: DEBUG, INFO, WARNING (default), ERROR")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve MCP on stdin and stdout (the default)")
    run = commands.add_parser("run", help="search a workflow for a task.toml, with progress")
    run.add_argument("task", help="the task file, e.g. examples/arithmetic/task.toml")
    run.add_argument("--seed", type=int, help="seed of every random draw (default: the file's)")
    run.add_argument("--executor", help="model that the workflows call, e.g. local:smollm2")
    run.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one of the sampler's options, e.g. particles=20 (repeatable)",
    )
    run.add_argument("--calls", type=int, help="budget: calls that reach a model")
    run.add_argument("--minutes", type=float, help="budget: minutes of running time")
    _add_output(run)
    resume = commands.add_parser("resume", help="go on with a run that stopped")
    resume.add_argument("run_id")
    _add_output(resume)
    runs = commands.add_parser("runs", help="list the runs in the database")
    runs.add_argument("--json", action="store_true", help="print JSON for scripts")
    show = commands.add_parser("show", help="show a run: its pool, its best workflow, its scores")
    show.add_argument("run_id")
    _add_output(show)
    pull = commands.add_parser("pull", help="fetch a local model's weights into the user's cache")
    pull.add_argument("model", help="smollm2, or a name of your own with --gguf")
    pull.add_argument("--gguf", help="register this GGUF file instead of fetching one")
    commands.add_parser("doctor", help="say what this machine gives: models, sandbox, database")
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", help="folder for the best workflow, the report and the plot")
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


if __name__ == "__main__":
    raise SystemExit(main())

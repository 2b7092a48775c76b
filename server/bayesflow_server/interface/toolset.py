"""The tools a server offers: all, or fewer if it was started with --read-only or --tools.

Made when they are first listed or called: their schemas, and what they are made from, take a tenth
of a second that the first answer need not wait for.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from bayesflow_server.errors import InputError

if TYPE_CHECKING:
    from mcp.server.mcpserver.tools import Tool

    from bayesflow_server.interface.backend import Backend

__all__ = ["READING", "TOOL_NAMES", "Narrowing", "make_tools"]

# Every tool by name, in the order of a user's way; those that change and spend nothing apart.
READING: Final = (
    "get_run",
    "list_runs",
    "get_pool",
    "get_best_workflow",
    "get_workflow",
    "plot_run",
)
TOOL_NAMES: Final = (
    "check_task",
    "start_bayesflow_run",
    "get_run",
    "list_runs",
    "cancel_run",
    "resume_run",
    "get_pool",
    "get_best_workflow",
    "plot_run",
    "get_workflow",
    "evaluate_workflow",
    "run_workflow",
    "next_proposals",
    "submit_proposals",
    "submit_workflow",
)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Which tools a server offers.

    Attributes:
        read_only: Only those that change and spend nothing.
        names: Only these, or None for all.
    """

    read_only: bool = False
    names: tuple[str, ...] | None = None

    def offered(self) -> tuple[str, ...]:
        """The names of the tools, in the order of `TOOL_NAMES`.

        Raises:
            InputError: A name is no tool's, or nothing is left.
        """
        for name in self.names or ():
            if name not in TOOL_NAMES:
                hint = get_close_matches(name, TOOL_NAMES, n=1)
                meant = f"; did you mean {hint[0]}?" if hint else "."
                raise InputError(
                    f"--tools names {name!r}, which is no tool{meant} There are "
                    f"{', '.join(TOOL_NAMES)}."
                )
        left = tuple(
            name
            for name in TOOL_NAMES
            if (self.names is None or name in self.names)
            and (not self.read_only or name in READING)
        )
        if not left:
            raise InputError(
                "--read-only and --tools leave no tool to offer; with --read-only, name some of "
                f"{', '.join(READING)}."
            )
        return left


def make_tools(backend: "Backend", narrowing: Narrowing) -> "dict[str, Tool]":
    """The tools that the server offers, by name."""
    # Imported here: they build a schema for everything that is said over the wire.
    from bayesflow_server.interface.answer import AnswerTool
    from bayesflow_server.interface.best import BestTool
    from bayesflow_server.interface.check import CheckTool
    from bayesflow_server.interface.evaluate import EvaluateTool
    from bayesflow_server.interface.plot import PlotTool
    from bayesflow_server.interface.pool import PoolTool
    from bayesflow_server.interface.proposals import ProposalTools
    from bayesflow_server.interface.runs import RunTools
    from bayesflow_server.interface.start import StartTool
    from bayesflow_server.interface.tool import PlainTool
    from bayesflow_server.interface.workflows import WorkflowTool

    search = (CheckTool, StartTool, RunTools, PoolTool, BestTool)
    use = (PlotTool, WorkflowTool, EvaluateTool, AnswerTool, ProposalTools)
    made = {tool.name: tool for group in (*search, *use) for tool in group(backend).tools()}
    offered = narrowing.offered()
    absent = frozenset(TOOL_NAMES).difference(offered)
    for tool in made.values():
        if absent and isinstance(tool, PlainTool):
            tool.narrow(absent)
    return {name: made[name] for name in offered if name in made}

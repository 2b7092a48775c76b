"""The tool that draws a run."""

import asyncio
import base64
from typing import TYPE_CHECKING, Annotated

from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, ImageContent
from pydantic import BaseModel, Field, JsonValue

from bayesflow_server.errors import InputError
from bayesflow_server.interface.arguments import READ, RunId
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.guidance import call_text
from bayesflow_server.interface.tool import make_tool
from bayesflow_server.plots.kinds import PlotKind

if TYPE_CHECKING:
    from bayesflow_server.plots.plot import Plot
    from bayesflow_server.plots.source import PlotSource

__all__ = ["DrawnRun", "PlotTool"]


class DrawnRun(BaseModel):
    """What a picture of a run shows."""

    run_id: str
    kind: PlotKind
    caption: str
    figures: dict[str, JsonValue] = Field(description="The numbers drawn.")
    next: str


class PlotTool:
    """Draws runs."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def tools(self) -> list[Tool]:
        """What the server registers."""
        return [make_tool(self.plot_run, "Plot a run", READ)]

    async def plot_run(
        self,
        run_id: RunId,
        kind: Annotated[
            PlotKind,
            Field(
                description="rewards: by round; genealogy: which particles had descendants; "
                "posterior: the best workflows; accuracy_cost: with the front."
            ),
        ] = "rewards",
    ) -> Annotated[CallToolResult, DrawnRun]:
        """Draws a run, at work or ended, as a PNG with a caption and the numbers; spends nothing.

        Names in the picture are data. Next: get_pool for the workflows behind it.
        """
        # Imported here: what a plot shows is read with all that a run is made of.
        from bayesflow_server.plots.plot import draw_plot
        from bayesflow_server.plots.source import read_source
        from bayesflow_server.plots.style import require_matplotlib

        source = await read_source(await self._backend.runs(), run_id)
        if not source.pool.rounds:
            raise InputError(
                f"{run_id} has not finished its first round, so there is nothing to draw yet; "
                f"call {call_text('get_run', run_id=run_id, wait_seconds=20)} first."
            )
        require_matplotlib()
        return _result(source, kind, await asyncio.to_thread(draw_plot, source, kind))


def _result(source: "PlotSource", kind: PlotKind, plot: "Plot") -> CallToolResult:
    if source.status == "finished":
        after = call_text("get_best_workflow", run_id=source.run_id)
    else:
        after = call_text("get_run", run_id=source.run_id)
    drawn = DrawnRun(
        run_id=source.run_id,
        kind=kind,
        caption=plot.caption,
        figures=plot.figures,
        next=f"{call_text('get_pool', run_id=source.run_id)} lists the workflows. {after}.",
    )
    image = ImageContent(data=base64.b64encode(plot.png).decode(), mime_type="image/png")
    return CallToolResult(content=[image], structured_content=drawn.model_dump(mode="json"))

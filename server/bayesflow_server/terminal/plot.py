"""`plot`: a run's pictures as files, and what is in each in words."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from bayesflow_server.app import Application
from bayesflow_server.errors import InputError
from bayesflow_server.plots.kinds import PlotKind
from bayesflow_server.plots.plot import draw_plot
from bayesflow_server.plots.source import PlotSource, read_source
from bayesflow_server.plots.style import require_matplotlib
from bayesflow_server.settings import Settings
from bayesflow_server.terminal.commands import find_run
from bayesflow_server.terminal.result import PLOTS, check_folder
from bayesflow_server.terminal.screen import open_console, say, write_json
from bayesflow_server.terminal.stopping import run_command

__all__ = ["plot"]


def plot(
    settings: Settings,
    asked: str,
    *,
    folder: str | None,
    kinds: Sequence[str] | None,
    as_json: bool,
) -> int:
    """Writes a run's plots into a folder, by default one with the run's id as its name.

    Raises:
        InputError: There is nothing to draw yet, or no place or means to draw it.
    """
    require_matplotlib()
    wanted: list[PlotKind] = [kind for kind in PLOTS if kinds is None or kinds.count(kind)]

    async def work() -> int:
        async with Application(settings) as application:
            service = await application.runs()
            run_id = await find_run(settings, service, asked)
            source = await read_source(service, run_id)
        if not source.pool.rounds:
            raise InputError(
                f"{run_id} has finished no round yet, so there is nothing to draw; "
                f"bayesflow-mcp wait {run_id} follows it."
            )
        place = check_folder(folder or run_id)
        assert place is not None  # it was named
        drawn = [_written(source, kind, place / PLOTS[kind]) for kind in wanted]
        if as_json:
            write_json({"run_id": run_id, "plots": drawn})
            return 0
        console = open_console()
        for one in drawn:
            say(console, f"wrote {one['file']}", whole=True)
            say(console, f"  {one['caption']}")
        return 0

    return run_command(work())


def _written(source: PlotSource, kind: PlotKind, path: Path) -> dict[str, object]:
    picture = draw_plot(source, kind)
    try:
        path.write_bytes(picture.png)
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be written ({error.strerror}); name another folder with --out."
        ) from None
    return {
        "kind": kind,
        "file": str(path),
        "caption": picture.caption,
        "figures": cast("dict[str, object]", picture.figures),
    }

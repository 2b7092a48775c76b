"""Runs to draw, of every kind there is, and what a picture must be."""

import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from PIL import Image

from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.runs.options import SamplerOptions
from bayesflow_server.runs.service import RunService
from fakes.houses import open_service, settled
from fakes.llm_runs import PRICES
from fakes.models import FakeModel
from fakes.tasks import OPTIONS, answer_addition, request

__all__ = ["HOSTILE", "KINDS_OF_RUN", "RunToDraw", "check_picture", "decoded", "run_to_draw"]

_SEARCHES: Final[dict[str, dict[str, Any]]] = {
    "archive": {"minibatch": "full"},
    "inject": {"refinement": "inject", "refinements": 4, "minibatch": "full"},
    "islands": {"particles": 6, "islands": 3, "rollouts": 2},
    "kept": {"particles": 4, "ess_threshold": 0.01},
    # Nine edits to one particle, and the last round alone counts: no clean lineage is left.
    "extinct": {
        "particles": 1,
        "refinement": "inject",
        "refinements": 9,
        "minibatch": "full",
        "weighting": "paper",
        "beta": 2.0,
    },
    "alone": {"particles": 1, "rounds": 1, "refinements": 0},
    # At a fixed beta the first rounds are of few rows, so there is no posterior yet.
    "paused": {"beta": 5.0, "minibatch": 4, "rounds": 5},
    "running": {"beta": 5.0, "minibatch": 4, "rounds": 5},
}
KINDS_OF_RUN: Final = tuple(_SEARCHES)
# As many as take a run through its first round and not through all.
_CALLS: Final = 62

HOSTILE: Final = (
    "$\\frac{1}{",
    "a $ b $ c_{d}^",
    "\\alpha \\\\ %s {0}",
    "工作流程：先问一次",
    "سير العمل \u202eabc",
    "line one\nline two\tand\x00more\x1b[31m",
    "🙂" * 40,
    "e\u0301" + "\u0301" * 500,
    "x" * 10_000,
    " \n\t ",
)


class RunToDraw(NamedTuple):
    """A run and the service that knows it."""

    service: RunService
    run_id: str


@asynccontextmanager
async def run_to_draw(
    path: Path, kind: str, *, priced: bool = True, name: str | None = None
) -> AsyncGenerator[RunToDraw]:
    """A run of that kind: one that works or is paused has ended its first round."""
    model = FakeModel(answer_addition)
    options = SamplerOptions.model_validate(OPTIONS.model_dump(exclude_none=True) | _SEARCHES[kind])
    budget = BudgetLimits(calls=_CALLS if kind == "paused" else 20_000)
    async with open_service(path, model, prices=PriceTable(PRICES if priced else {})) as service:
        if kind == "running":
            model.hold_at(_CALLS)
        asked = request(options=options, budget=budget, name=name)
        run_id = (await service.start(asked)).record.run_id
        await (model.reached() if kind == "running" else settled(service, run_id))
        yield RunToDraw(service, run_id)
        model.release()


def decoded(png: bytes) -> Image.Image:
    """The picture; Pillow checks that it is whole."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    image.load()
    return image.convert("RGB")


def check_picture(png: bytes) -> None:
    """Whole, of the promised width and weight, on white, with something on it."""
    image = decoded(png)
    assert image.width == 1200
    assert 450 <= image.height <= 1200
    assert len(png) <= 200_000
    corners = ((0, 0), (image.width - 1, 0), (0, image.height - 1))
    assert {image.getpixel(corner) for corner in corners} == {(255, 255, 255)}
    colours = image.getcolors(1 << 24)
    assert colours is not None
    white = sum(count for count, colour in colours if colour == (255, 255, 255))
    assert 0.01 < 1 - white / (image.width * image.height) < 0.9
    assert len(colours) > 20

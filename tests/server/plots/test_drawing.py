"""Pictures of every kind of run: whole, the same each time, and whatever names are in them."""

import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import cast, get_args

import pytest

from bayesflow_server.plots.accuracy_cost import AccuracyCost, FinalPoint, Point, draw_accuracy_cost
from bayesflow_server.plots.genealogy import Genealogy, GenealogyRound, Node, draw_genealogy
from bayesflow_server.plots.kinds import PlotKind
from bayesflow_server.plots.plot import draw_plot
from bayesflow_server.plots.posterior import (
    Evidence,
    RankedWorkflow,
    RankedWorkflows,
    draw_posterior,
)
from bayesflow_server.plots.rewards import FinalScore, RoundRewards, draw_rewards
from bayesflow_server.plots.source import read_source
from fakes.pictures import HOSTILE, check_picture, decoded, run_to_draw

KINDS: tuple[PlotKind, ...] = get_args(PlotKind)


def rounds(count: int) -> list[RoundRewards]:
    return [RoundRewards(t, 0.1, 0.3 + 0.02 * t, 0.8, 20) for t in range(1, count + 1)]


def family(particles: int, count: int, islands: int = 1, injected: int = 0) -> Genealogy:
    """Each child of a random parent; one reward in twenty is -inf, one lineage in five refined."""
    random = Random(particles)

    def nodes(number: int) -> tuple[Node, ...]:
        pool = particles + (injected if number < count else 0)
        return tuple(
            Node(
                place,
                random.randrange(particles) if number > 1 and place < particles else None,
                random.random() if random.random() < 0.95 else None,
                clean=random.random() < 0.8,
                alive=random.random() < 0.5,
            )
            for place in range(pool)
        )

    return Genealogy(
        tuple(
            GenealogyRound(number, nodes(number), 0.7 * particles, number % 3 > 0)
            for number in range(1, count + 1)
        ),
        particles,
        islands,
    )


def ranking(
    count: int, steps: tuple[str, ...] = ("Ask", "Answer"), *, weighed: bool = True
) -> RankedWorkflows:
    share = 1 / count if weighed else None
    shown = [
        RankedWorkflow(f"wf_{n:016d}", steps, share, share, 0.6, 0.4, 0.8)
        for n in range(min(12, count))
    ]
    return RankedWorkflows(
        tuple(shown),
        max(0, count - 12),
        4.0,
        Evidence(1.5, 0.2, 7.5, 0.8) if weighed else None,
        None if weighed else "no round is scored on every validation row yet",
        shown[0].workflow_id,
    )


def cloud(count: int, spread: float = 3.0) -> AccuracyCost:
    random = Random(count)
    origins = ("prior", "refined", "submitted", "warm", "baseline")
    points = [
        Point(
            f"wf_{n}", random.random(), spread ** random.uniform(0, 2), origins[n % 5], n % 7 == 6
        )
        for n in range(count)
    ]
    tests = (
        FinalPoint("best", "wf_0", 0.7, 0.6, 0.8, points[0].cost),
        FinalPoint("baseline", "wf_1", 0.5, 0.4, 0.6, points[0].cost),
    )
    cheap = min(points, key=lambda point: point.cost)
    return AccuracyCost(tuple(points), (cheap.workflow_id,), tests, "tokens")


DRAWINGS: dict[str, Callable[[str], bytes]] = {
    "rewards": lambda title: draw_rewards(
        rounds(5), [FinalScore("best", 0.7, 0.6, 0.8), FinalScore("baseline", 0.5, 0.5, 0.5)], title
    ),
    "genealogy": lambda title: draw_genealogy(family(8, 4), title),
    "posterior": lambda title: draw_posterior(ranking(5, (title, title)), title),
    "without posterior": lambda title: draw_posterior(ranking(5, (title,), weighed=False), title),
    "accuracy_cost": lambda title: draw_accuracy_cost(cloud(20), title),
}


async def test_a_run_is_drawn_the_same_every_time(tmp_path: Path) -> None:
    async with run_to_draw(tmp_path / "runs.sqlite3", "inject") as (service, run_id):
        source = await read_source(service, run_id)
    pictures = [draw_plot(source, kind) for kind in KINDS]
    assert [draw_plot(source, kind) for kind in KINDS] == pictures
    assert len({plot.png for plot in pictures}) == len(KINDS)


@pytest.mark.parametrize(
    ("drawing", "title"),
    [
        *(("posterior", title) for title in HOSTILE),
        *((name, title) for name in DRAWINGS for title in (HOSTILE[0], HOSTILE[3])),
    ],
    ids=lambda text: text.encode("unicode_escape").decode()[:20],
)
def test_any_title_can_be_drawn(drawing: str, title: str) -> None:
    """Nothing is read as a formula, and no glyph is missed: a warning would be an error here."""
    check_picture(DRAWINGS[drawing](title))


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_the_title_is_in_the_picture_and_the_bytes_are_the_same_twice(drawing: str) -> None:
    draw = DRAWINGS[drawing]
    assert draw("one title") == draw("one title")
    assert draw("one title") != draw("another")


@pytest.mark.parametrize(
    "genealogy",
    [
        family(1, 1),
        family(2, 20),
        family(40, 10, 4, 10),
        family(100, 20, 50),
        family(500, 5, 1, 20),
        family(1000, 20, 1, 100),
    ],
    ids=lambda one: f"{one.particles}x{len(one.rounds)}",
)
def test_one_particle_and_a_thousand_can_be_drawn(genealogy: Genealogy) -> None:
    check_picture(draw_genealogy(genealogy, "many"))


@pytest.mark.parametrize("count", [1, 13, 500])
@pytest.mark.parametrize("weighed", [True, False])
def test_one_workflow_and_hundreds_can_be_ranked(count: int, weighed: bool) -> None:
    check_picture(draw_posterior(ranking(count, weighed=weighed), "many"))


@pytest.mark.parametrize("count", [1, 30, 10_000])
@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_one_point_and_thousands_can_be_drawn(count: int, spread: float) -> None:
    check_picture(draw_accuracy_cost(cloud(count, spread), "many"))


@pytest.mark.parametrize("spread", [3.0, 1000.0])
def test_costs_of_one_size_and_of_many_fill_the_picture(spread: float) -> None:
    image = decoded(draw_accuracy_cost(cloud(200, spread), "")).crop((120, 60, 1180, 560))
    blue = [
        x
        for x in range(image.width)
        for y in range(image.height)
        if cast("tuple[int, int, int]", image.getpixel((x, y)))[0] < 90
        and cast("tuple[int, int, int]", image.getpixel((x, y)))[2] > 170
    ]
    for third in range(3):
        assert any(third <= 3 * x / image.width < third + 1 for x in blue)


def test_workflows_that_cost_nothing_or_do_not_run_can_be_drawn() -> None:
    free = Point("wf_a", 0.5, 0.0, "prior", failed=False)
    broken = Point("wf_b", 0.0, 0.0, "refined", failed=True)
    check_picture(draw_accuracy_cost(AccuracyCost((free, broken), ("wf_a",), (), "usd"), "free"))
    check_picture(draw_accuracy_cost(AccuracyCost((broken,), (), (), "tokens"), "broken"))


@pytest.mark.parametrize("count", [1, 2, 20])
def test_one_round_and_twenty_can_be_drawn(count: int) -> None:
    check_picture(draw_rewards(rounds(count), [], "many"))


def test_rewards_below_zero_and_of_minus_infinity_can_be_drawn() -> None:
    below = RoundRewards(1, -0.4, -0.1, 0.2, 10)
    lost = RoundRewards(2, -math.inf, -math.inf, 0.3, 10)
    none = RoundRewards(3, -math.inf, -math.inf, -math.inf, 10)
    check_picture(draw_rewards([below, lost, none], [], "penalised"))
    check_picture(draw_rewards([none], [], "nothing"))
    dark = GenealogyRound(1, (Node(0, None, None, True, True),), 1.0, None)
    check_picture(draw_genealogy(Genealogy((dark,), 1, 1), "nothing"))


def test_more_particles_make_a_taller_picture_of_the_same_width() -> None:
    few, many = (decoded(draw_genealogy(family(n, 3), "size")) for n in (3, 40))
    assert few.size == (1200, 750)
    assert many.size == (1200, 1200)

"""The real server killed fifty times at random moments: every run ends as if nothing had happened.

What is claimed of each kill: no call whose answer was on the disk by then is ever made again. So
the calls of a run are those of an undisturbed one, and once more those in flight at a kill.
"""

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from fakes.chaos import Kill, Moment, Ordeal, Scene
from fakes.tasks import GRAMMAR

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="kills by signal"),
]

_GRAMMAR: Final[dict[str, object]] = {"optimizer": "grammar", "grammar": GRAMMAR}
_LLM: Final[dict[str, object]] = {"optimizer": "scripted:default"}
_AGENT: Final[dict[str, object]] = {"optimizer": "client", "preset": "client"}
_INJECT: Final[dict[str, object]] = {"options": {"refinement": "inject"}}
_PAPER: Final[dict[str, object]] = {"preset": "paper", "options": {"particles": 5}}
_ISLANDS: Final[dict[str, object]] = {"options": {"islands": 2, "refiner_lag": 1}}

SCENES: Final = (
    Scene("a grammar, archive", (_GRAMMAR, _GRAMMAR), kills=7),
    Scene("a grammar, inject", (_GRAMMAR | _INJECT, _GRAMMAR | _PAPER), kills=7),
    Scene("an LLM, archive", (_LLM, _LLM), kills=7),
    Scene("an LLM, inject", (_LLM | _INJECT, _LLM | _PAPER), kills=7),
    Scene("an agent", (_AGENT,), kills=7),
    Scene("an LLM and a grammar on islands", (_LLM | _ISLANDS, _GRAMMAR | _ISLANDS), kills=7),
    Scene("four runs, two at once", (_GRAMMAR, _LLM, _GRAMMAR | _INJECT, _LLM | _INJECT), kills=8),
)


def moments(scene: Scene, calls: int, chance: random.Random) -> list[Moment]:
    """Random moments over the whole of the runs, and one while a server starts."""
    counts = sorted(chance.randrange(1, calls) for _ in range(scene.kills - 1))
    found = [Moment(count, chance.choice((0.0, chance.uniform(0, 0.05)))) for count in counts]
    found.insert(chance.randrange(1, scene.kills), Moment(None, chance.uniform(0, 1.0)))
    return found


def told(scene: Scene, kills: Sequence[Kill], undisturbed: int, begun: int, asked: int) -> str:
    """The moments and the call counts, for people."""
    lines = [f"\n{scene.name}: killed at (of {undisturbed} calls)"]
    for kill in kills:
        when = "start" if kill.moment.calls is None else f"call {kill.moment.calls}"
        lines.append(
            f"  {when:>10} + {kill.moment.seconds:.3f} s, after {kill.lived:.2f} s: "
            f"{kill.begun} calls begun, {kill.committed} answers on disk, "
            f"{kill.in_flight} in flight, {kill.repeated} repeated that were on disk"
        )
    lost = sum(kill.in_flight for kill in kills)
    lines.append(
        f"  {begun} calls begun = {undisturbed} + {lost} that were in flight; taken over by itself "
        f"each time but {asked}, after three in one round\n"
    )
    return "\n".join(lines)


def test_there_are_fifty_kills() -> None:
    assert sum(scene.kills for scene in SCENES) == 50


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_runs_killed_at_random_moments_end_as_if_nothing_had_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scene: Scene
) -> None:
    calm = Ordeal(tmp_path / "calm", scene)
    expected = calm.endure()
    assert max(calm.calls.values()) == 1
    ordeal = Ordeal(tmp_path / "chaos", scene)
    result = ordeal.endure(moments(scene, calm.distinct, random.Random(scene.name)))
    begun = ordeal.calls.total()
    with capsys.disabled():
        sys.stdout.write(told(scene, ordeal.kills, calm.distinct, begun, ordeal.asked))
    assert len(ordeal.kills) == scene.kills
    assert result == expected
    assert set(ordeal.calls) == set(calm.calls)
    assert [kill.repeated for kill in ordeal.kills] == [0] * scene.kills
    assert begun == calm.distinct + sum(kill.in_flight for kill in ordeal.kills)
    # What was begun and never answered is not on the account; everything else is, once.
    assert ordeal.paid() == ordeal.answers_on_disk() == calm.paid() == calm.distinct

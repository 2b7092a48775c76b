"""What a pool's posterior is made of in the store: islands, lineages, rounds of older releases."""

import json
import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest

from bayesflow_sampler.types import Generation
from bayesflow_server.runs.options import SamplerOptions
from bayesflow_server.runs.pool_view import StoredPool, view_pool
from bayesflow_server.runs.recorder import Recorder
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import PoolEntry, PoolRow, RoundRecord, SummaryRecord
from fakes.approx import approx
from fakes.houses import settled
from fakes.models import FakeModel
from fakes.tasks import OPTIONS, request

REWARDS = {"a": 0.2, "b": 0.9, "c": 0.5, "d": 0.7}
# N = 4, one draw each, two islands: a and b, c and d.
DRAWN = [[name, -math.log(4), 0 if name in "ab" else 1] for name in REWARDS]


def options(**changes: Any) -> SamplerOptions:
    return SamplerOptions.model_validate(OPTIONS.model_dump(exclude_none=True) | changes)


def pool(draws: Sequence[Sequence[object]], islands: int, **stats: object) -> StoredPool:
    rows = [
        PoolRow(
            PoolEntry("run", name, 1, "prior"),
            "[]",
            SummaryRecord("run", name, "validation", 10, mean, 0.2, failed=False),
        )
        for name, mean in REWARDS.items()
    ]
    figures: dict[str, object] = {
        "round": 1,
        "inverse_temperature": 2.0,
        "fully_scored": True,
        "draws": draws,
        "clean_share": 1.0,
        "ancestors": [],
    }
    rounds = [RoundRecord("run", 1, json.dumps(figures | stats))]
    return StoredPool(rows, rounds, 10, pool_rounds=True, particles=4, islands=islands)


def test_two_islands_give_the_evidence_the_error_of_their_mean() -> None:
    beta = 3.0
    posterior = view_pool(pool(DRAWN, 2), beta=beta).posterior
    assert posterior is not None
    law = {name: math.exp(beta * reward) for name, reward in REWARDS.items()}
    halves = ((law["a"] + law["b"]) / 2, (law["c"] + law["d"]) / 2)
    evidence = sum(halves) / 2
    assert posterior.log_evidence == approx(math.log(evidence))
    assert posterior.island_evidence == approx(tuple(map(math.log, halves)))
    assert posterior.relative_error == approx(stdev(halves) / math.sqrt(2) / evidence)


def test_one_island_gives_it_none() -> None:
    alone = view_pool(pool([[*one[:2], 0] for one in DRAWN], 1), beta=3.0).posterior
    assert alone is not None
    assert alone.relative_error is None


def test_a_round_of_an_older_release_without_islands_and_decisions_is_still_read() -> None:
    """There a draw was a pair, and notes stood where decisions are now."""
    old = pool([one[:2] for one in DRAWN], 1, notes=["beta = 2: it was given."])
    new = pool([[*one[:2], 0] for one in DRAWN], 1, decisions=[], resampled=True)
    for beta in (None, 0.5, 9.0):
        assert view_pool(old, beta=beta) == view_pool(new, beta=beta)
    assert view_pool(old).lineages == (4,)


def test_lineages_that_end_in_a_refinement_are_no_ancestors_and_neither_are_theirs() -> None:
    """N = 4; index 4 is an injected refinement, of which two children came in round 1."""
    stored = pool(DRAWN, 1, ancestors=[0, 0, 4, 4], clean_share=1.0)
    second = json.loads(stored.rounds[0].stats) | {
        "round": 2,
        "ancestors": [1, 2, 2, 3],
        "clean_share": 0.5,
        "draws": [],
        "fully_scored": False,
    }
    third = second | {"round": 3, "ancestors": [], "clean_share": 0.25}
    rounds = [
        *stored.rounds,
        *(RoundRecord("run", s["round"], json.dumps(s)) for s in (second, third)),
    ]
    # Round 3's four come of 1, 2 and 3 in round 2, and these of 0 in round 1 or of the refinement.
    assert view_pool(stored._replace(rounds=rounds)).lineages == (1, 3, 4)
    assert view_pool(stored._replace(rounds=rounds)).clean_share == 0.25
    assert view_pool(stored._replace(rounds=rounds[:1])).lineages == (4,)
    assert view_pool(stored._replace(rounds=[])).lineages == ()
    assert view_pool(stored._replace(rounds=[])).clean_share is None


# --- whole runs ---------------------------------------------------------------------------------


async def ran(service: RunService, given: SamplerOptions, seed: int = 0) -> StoredPool:
    run_id = (await service.start(request(seed, options=given))).record.run_id
    record = await settled(service, run_id)
    assert record.status == "finished", record.reason
    return await service.pool(run_id)


async def test_a_run_with_islands_has_an_error_at_every_beta_without_a_call(
    service: RunService, model: FakeModel
) -> None:
    given = options(particles=8, islands=2, minibatch="full", beta=2.0, rounds=2)
    stored = await ran(service, given)
    calls = model.started.total()
    drawn = [draw for one in stored.rounds for draw in json.loads(one.stats)["draws"]]
    assert {island for _, _, island in drawn} == {0, 1}
    errors: list[float] = []
    for beta in (0.1, 2.0, 30.0):
        view = view_pool(stored, beta=beta)
        assert view.posterior is not None
        assert view.posterior.relative_error is not None
        errors.append(view.posterior.relative_error)
        assert sum(item.posterior or 0.0 for item in view.items) == approx(1.0)
    # At beta near 0 every island's evidence is near 1; the further, the more they differ.
    assert errors[0] < errors[1] < errors[2]
    assert model.started.total() == calls


async def test_without_lookahead_the_same_draws_of_every_round_count_once(
    service: RunService,
) -> None:
    given = options(particles=6, lookahead=False, rounds=4, minibatch="full", beta=5.0)
    posterior = view_pool(await ran(service, given)).posterior
    assert posterior is not None
    assert posterior.rounds == (4,)
    assert 1 <= posterior.effective_sample_size <= 6


@pytest.mark.parametrize("seed", [0, 4])
async def test_lineages_and_clean_share_of_a_run_are_those_of_its_generations(
    service: RunService, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    seen: list[Generation] = []
    keep = Recorder.record_generation

    async def spy(recorder: Recorder, generation: Generation) -> None:
        seen.append(generation)
        await keep(recorder, generation)

    monkeypatch.setattr(Recorder, "record_generation", spy)
    given = options(
        particles=6, refinement="inject", refinements=3, minibatch="full", beta=20.0, rounds=4
    )
    view = view_pool(await ran(service, given, seed))

    last = seen[-1].particles
    clean = [one for one in last if one.clean]
    assert view.clean_share == approx(len(clean) / len(last))
    assert 0 < len(clean) < len(last)
    # Walked down from round 1: a particle lives on if a child of it does.
    counts = [len(last)]
    alive = {one.ancestor for one in last if one.ancestor < 6}
    for generation in reversed(seen[:-1]):
        counts.append(len(alive))
        alive = {generation.particles[i].ancestor for i in alive}
        alive = {index for index in alive if 0 <= index < 6}
    assert view.lineages == tuple(reversed(counts))


async def test_rounds_that_an_older_release_wrote_give_the_same_view(
    path: Path, service: RunService
) -> None:
    stored = await ran(service, options(beta=3.0, minibatch="full"))
    run_id = stored.rounds[0].run_id
    with closing(sqlite3.connect(path)) as connection, connection:
        for one in stored.rounds:
            stats = json.loads(one.stats)
            assert all(len(draw) == 3 for draw in stats["draws"])
            stats["draws"] = [draw[:2] for draw in stats["draws"]]
            stats["notes"] = [decision["choice"] for decision in stats.pop("decisions")]
            del stats["resampled"], stats["counts"]
            connection.execute(
                "UPDATE rounds SET stats = ? WHERE run_id = ? AND round = ?",
                (json.dumps(stats), run_id, one.round),
            )
    old = await service.pool(run_id)
    assert old.rounds != stored.rounds
    for beta in (None, 0.5, 20.0):
        assert view_pool(old, beta=beta) == view_pool(stored, beta=beta)

import dataclasses
import math

import pytest

from bayesflow_server.errors import StoreError
from bayesflow_server.store import Store
from bayesflow_server.store.records import (
    NewRun,
    ParticleRecord,
    PoolEntry,
    RoundRecord,
    WorkflowRecord,
)

PARTICLE = ParticleRecord(
    run_id="run",
    round=1,
    index=0,
    workflow_id=None,
    prefix_id="p",
    steps=1,
    log_weight=-0.5,
    score=0.25,
    ancestor=None,
    clean=True,
)


async def test_the_first_result_of_a_draw_stands_and_is_what_the_caller_gets(
    store: Store, run_id: str
) -> None:
    assert await store.recall_draw(run_id, "k") is None
    assert await store.record_draw(run_id, "k", "first") == "first"
    assert await store.record_draw(run_id, "k", "second") == "first"
    assert await store.recall_draw(run_id, "k") == "first"


async def test_the_journal_comes_back_in_the_order_it_was_written(
    store: Store, run_id: str
) -> None:
    for key in ("z", "a", "m"):
        await store.record_draw(run_id, key, key.upper())
    assert list((await store.draws(run_id)).items()) == [("z", "Z"), ("a", "A"), ("m", "M")]


async def test_runs_have_journals_of_their_own(store: Store, run_id: str) -> None:
    await store.create_run(NewRun(run_id="other", request="{}", request_hash="hash"), [])
    await store.record_draw(run_id, "k", "mine")
    assert await store.recall_draw("other", "k") is None
    assert await store.draws("other") == {}


async def test_a_round_replaces_what_was_stored_of_it(store: Store, run_id: str) -> None:
    first = [
        PARTICLE,
        dataclasses.replace(PARTICLE, index=1),
        dataclasses.replace(PARTICLE, index=2),
    ]
    await store.record_round(RoundRecord(run_id, 1, '{"old": 1}'), first)
    second = [dataclasses.replace(PARTICLE, ancestor=2, clean=False)]
    await store.record_round(RoundRecord(run_id, 1, "{}"), second)
    assert await store.rounds(run_id) == [RoundRecord(run_id, 1, "{}")]
    assert await store.particles(run_id) == second


async def test_particles_come_by_round_and_index_with_infinite_weights_intact(
    store: Store, run_id: str
) -> None:
    dead = dataclasses.replace(PARTICLE, index=1, log_weight=-math.inf)
    later = dataclasses.replace(PARTICLE, round=2, ancestor=1)
    await store.record_round(RoundRecord(run_id, 2, "{}"), [later])
    await store.record_round(RoundRecord(run_id, 1, "{}"), [dead, PARTICLE])
    assert await store.particles(run_id) == [PARTICLE, dead, later]
    assert await store.particles(run_id, 2) == [later]
    assert [round.round for round in await store.rounds(run_id)] == [1, 2]


async def test_a_weight_that_is_not_a_number_is_refused_with_the_whole_round(
    store: Store, run_id: str
) -> None:
    broken = dataclasses.replace(PARTICLE, log_weight=math.nan)
    with pytest.raises(StoreError, match="log_weight"):
        await store.record_round(RoundRecord(run_id, 1, "{}"), [PARTICLE, broken])
    assert await store.rounds(run_id) == []
    assert await store.particles(run_id) == []


async def test_a_particle_names_only_a_workflow_that_is_stored(store: Store, run_id: str) -> None:
    particle = dataclasses.replace(PARTICLE, workflow_id="w")
    with pytest.raises(StoreError, match="does not hold"):
        await store.record_round(RoundRecord(run_id, 1, "{}"), [particle])
    await store.add_to_pool(WorkflowRecord("w", "", "[]"), PoolEntry(run_id, "w", 1, "prior"))
    await store.record_round(RoundRecord(run_id, 1, "{}"), [particle])
    assert await store.particles(run_id) == [particle]

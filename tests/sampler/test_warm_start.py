"""Searches that start with workflows: they enter as refined candidates, never as prior draws."""

from dataclasses import dataclass, replace

import pytest

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.final_pick import choose
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Prior
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import Generation, Workflow
from fakes.search_ports import ChattyPrior, MemoryJournal, RowReward, ScriptedRefiner, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy, workflow_of

TOY = make_toy("ab", 3, seed=2, stop=True)
OPTIONS = SearchOptions(
    particles=4, refinements=1, rounds=3, inverse_temperature=1.0, minibatch=None
)
WARM = [workflow_of(word) for word in ("xyz", "zyx")]
OTHER, EDIT = workflow_of("xxx"), workflow_of("yyy")
REWARDS = {**TOY.rewards, **{one.workflow_id: 0.5 for one in (*WARM, OTHER, EDIT)}}
LOVED = TableReward({**REWARDS, WARM[0].workflow_id: 400.0})


@dataclass(frozen=True)
class Given:
    """Gives out workflows in the first round."""

    first: list[Workflow]

    async def take(self, number: int) -> list[Workflow]:
        return self.first if number == 1 else []


def search(
    options: SearchOptions = OPTIONS,
    *,
    warm: list[Workflow] | None = None,
    given: Given | None = None,
    prior: Prior | None = None,
    reward: RowReward | TableReward | None = None,
    refiner: ScriptedRefiner | None = None,
) -> Search:
    made = search_over(
        TOY,
        options,
        prior=prior,
        reward=reward or RowReward(REWARDS, rows=6),
        refiner=refiner or ScriptedRefiner([EDIT]),
        journal=MemoryJournal(),
    )
    made.warm = WARM if warm is None else warm
    made.suggestions = given
    return made


def refined(generation: Generation) -> list[tuple[str, str]]:
    return [(one.workflow.workflow_id, one.origin) for one in generation.refinements]


def archived(generations: list[Generation]) -> Archive:
    archive = Archive(6)
    for generation in generations:
        archive.add(generation)
    return archive


WARM_IDS = [one.workflow_id for one in WARM]
AS_WARM = [(name, "warm") for name in WARM_IDS]
AS_EDIT = (EDIT.workflow_id, "refined")


async def test_they_stand_before_the_first_rounds_edits_and_in_no_later_round() -> None:
    generations = await run(search())

    assert [refined(one) for one in generations] == [[*AS_WARM, AS_EDIT], [AS_EDIT], [AS_EDIT]]


async def test_they_are_scored_on_the_rounds_rows_without_a_parent_and_not_clean() -> None:
    first = (await run(search(replace(OPTIONS, minibatch=2))))[0]

    for candidate in first.refinements[:2]:
        assert (candidate.origin, candidate.clean, candidate.round) == ("warm", False, 1)
        assert candidate.parent_id is None
        assert candidate.evaluation.rows == first.rows


@pytest.mark.parametrize("refinement", ["archive", "inject"])
async def test_the_refiner_may_edit_them_archived_ones_later_too(refinement: str) -> None:
    """As it may the best edits of earlier rounds; injected, they live on among the particles."""
    refiner = ScriptedRefiner([max(TOY.leaves, key=lambda leaf: leaf.reward).workflow])
    options = replace(OPTIONS, refinement="inject" if refinement == "inject" else "archive")
    await run(search(options, refiner=refiner))

    assert refiner.pools[0][-2:] == WARM_IDS
    for pool in refiner.pools[1:]:
        assert set(WARM_IDS) & set(pool) == (set(WARM_IDS) if refinement == "archive" else set())
    assert all(set(WARM_IDS) <= seen for seen in refiner.seen)


async def test_without_look_ahead_they_stay_in_the_pool() -> None:
    refiner = ScriptedRefiner([EDIT])
    await run(search(replace(OPTIONS, lookahead=False), refiner=refiner))

    assert all(set(WARM_IDS) <= set(pool) for pool in refiner.pools)


@pytest.mark.parametrize("minibatch", [None, 2])
@pytest.mark.parametrize("recycle", [False, True])
async def test_archived_they_leave_particles_posterior_and_evidence_alone(
    minibatch: int | None, recycle: bool
) -> None:
    options = replace(OPTIONS, minibatch=minibatch, rollouts=2, recycle=recycle)
    ours, plain = await run(search(options)), await run(search(options, warm=[]))
    warm, cold = archived(ours), archived(plain)

    assert [one.particles for one in ours] == [one.particles for one in plain]
    assert [one.ancestors for one in ours] == [one.ancestors for one in plain]
    assert warm.draws == cold.draws
    assert warm.posterior(1.0) == cold.posterior(1.0)
    assert warm.entries.keys() - cold.entries.keys() == set(WARM_IDS)
    assert [warm.entries[name].origin for name in WARM_IDS] == ["warm", "warm"]


async def test_with_a_chat_prior_they_are_injected() -> None:
    options = replace(OPTIONS, refinement="inject", refinements=0)
    prior = ChattyPrior(GrammarPrior(TOY.grammar, 0), WARM[0])
    first, second, third = await run(search(options, prior=prior, reward=LOVED))

    assert [entry.rollouts[0].workflow for entry in first.injected] == WARM
    assert [entry.prefix for entry in first.injected] == [one.prefix(1) for one in WARM]
    assert all(not entry.clean and entry.log_weight == 0 for entry in first.injected)
    assert first.ancestors == (4, 4, 4, 4)
    assert not any(particle.clean for particle in (*second.particles, *third.particles))
    assert second.injected == third.injected == ()
    assert archived([first, second, third]).posterior(1.0) is None or all(
        name not in WARM_IDS
        for name in archived([first]).posterior(1.0).probability  # type: ignore[union-attr]
    )


async def test_with_a_coherent_prior_they_are_left_to_the_final_pick() -> None:
    options = replace(OPTIONS, refinement="inject")
    reward = TableReward({**LOVED.rewards, EDIT.workflow_id: -400.0}, rows=6)
    generations = await run(search(options, reward=reward))
    injected = [one.rollouts[0].workflow for one in generations[0].injected]
    finalists = await choose(archived(generations), reward)

    assert injected == [EDIT]
    assert finalists[0].workflow == WARM[0]


async def test_one_that_the_prior_drew_itself_stays_a_draw_of_the_prior() -> None:
    drawn = (await run(search(warm=[])))[0].particles[0].rollouts[0].workflow
    generations = await run(search(warm=[drawn, WARM[0]]))
    entry = archived(generations).entries[drawn.workflow_id]

    assert refined(generations[0]) == [AS_WARM[0], AS_EDIT]
    assert (entry.origin, entry.clean) == ("prior", True)


async def test_one_that_the_prior_draws_later_becomes_a_draw_of_the_prior() -> None:
    plain = await run(search(warm=[]))
    first = {r.workflow.workflow_id for p in plain[0].particles for r in p.rollouts}
    later = [
        rollout.workflow
        for particle in plain[2].particles
        for rollout in particle.rollouts
        if rollout.workflow.workflow_id not in first
    ]
    assert later
    generations = await run(search(warm=[later[0]]))
    entry = archived(generations).entries[later[0].workflow_id]

    assert refined(generations[0])[0] == (later[0].workflow_id, "warm")
    assert (entry.origin, entry.clean) == ("prior", True)


async def test_one_that_is_given_twice_or_handed_in_too_enters_once_as_warm() -> None:
    table = TableReward(REWARDS)
    given = Given([OTHER, WARM[1]])
    options = replace(OPTIONS, rounds=1)
    generations = await run(search(options, warm=[*WARM, WARM[0]], given=given, reward=table))
    asked = [name for name, _ in table.asked]

    assert refined(generations[0]) == [*AS_WARM, (OTHER.workflow_id, "submitted"), AS_EDIT]
    assert [asked.count(name) for name in WARM_IDS] == [1, 1]


async def test_an_edit_that_is_one_of_them_leaves_it_warm_in_the_pool() -> None:
    refiner = ScriptedRefiner([WARM[0]])
    generations = await run(search(replace(OPTIONS, refinements=2), refiner=refiner))

    assert refiner.pools[1] == refiner.pools[0]
    assert archived(generations).entries[WARM_IDS[0]].origin == "warm"


async def test_they_are_no_draws_and_are_not_journaled() -> None:
    made = search()
    await run(made)
    journal = made.journal
    assert isinstance(journal, MemoryJournal)
    kinds = {key.split("/")[0] for key in journal.draws}

    assert kinds == {"extend", "refine"}
    assert await run(made) == await run(search())

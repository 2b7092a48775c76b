"""What waits for what: selection is the only barrier, and the refiner's lag is as long as it says.

Each fake holds back one call until another has begun. An engine that waits where it need not would
wait for ever, which virtual time turns into an error; the same fake is then the control.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest

from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, Generation, RowSet, Workflow
from fakes.approx import approx
from fakes.search_ports import CountingPrior, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy, workflow_of
from fakes.virtual_time import in_virtual_time

TOY = make_toy("abc", 4, seed=3)
STOPPING = make_toy("ab", 4, seed=5, stop=True)
EDITS = [workflow_of(word) for word in ("xa", "xb", "xc", "xd")]
# A grammar cannot go on with foreign steps: injected, they are never selected.
REWARDS = {**TOY.rewards, **{edit.workflow_id: -400.0 for edit in EDITS}}
OPTIONS = SearchOptions(
    particles=3, rollouts=2, refinements=3, rounds=3, inverse_temperature=1.0, minibatch=None
)
DEADLOCK = "every task waits for something that cannot come"


@dataclass
class Stage:
    """What happened, in order; who is to wait until what has happened."""

    holds: dict[str, str] = field(default_factory=dict[str, str])
    happened: list[str] = field(default_factory=list[str])
    _gates: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])

    async def enter(self, name: str) -> None:
        """`name` begins, and waits for what it is told to wait for."""
        self.happened.append(name)
        self.gate(name).set()
        if name in self.holds:
            await self.gate(self.holds[name]).wait()

    def end(self, name: str) -> None:
        self.happened.append(f"{name} done")
        self.gate(f"{name} done").set()

    def gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())


@dataclass
class StagedPrior:
    stage: Stage
    inner: GrammarPrior
    drawn: dict[str, str] = field(default_factory=dict[str, str])
    coherent: bool = True

    @property
    def root(self) -> Workflow:
        return self.inner.root

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        await self.stage.enter(key.text)
        workflow = await self.inner.extend(prefix, key)
        self.stage.end(key.text)
        return workflow

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        return await self.extend(prefix, key)


@dataclass
class StagedReward(TableReward):
    stage: Stage = field(default_factory=Stage)

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        name = f"score {workflow.workflow_id}"
        await self.stage.enter(name)
        found = await super().score(workflow, rows)
        self.stage.end(name)
        return found


@dataclass
class StagedRefiner:
    stage: Stage
    pools: list[list[str]] = field(default_factory=list[list[str]])
    seen: list[set[str]] = field(default_factory=list[set[str]])

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        self.pools.append([candidate.workflow.workflow_id for candidate in pool])
        self.seen.append(set(seen))
        await self.stage.enter(key.text)
        self.stage.end(key.text)
        return Edit(EDITS[key.particle], pool[0].workflow.workflow_id)


def played(
    options: SearchOptions, holds: dict[str, str] | None = None
) -> tuple[list[Generation], Stage, StagedRefiner]:
    """A whole search in virtual time.

    Raises:
        RuntimeError: It waits for ever.
    """
    stage = Stage(holds or {})
    refiner = StagedRefiner(stage)
    search = search_over(
        TOY,
        options,
        prior=StagedPrior(stage, GrammarPrior(TOY.grammar, 0)),
        reward=StagedReward(REWARDS, stage=stage),
        refiner=refiner,
    )
    return in_virtual_time(run(search)), stage, refiner


def waits_for_ever(options: SearchOptions, holds: dict[str, str]) -> bool:
    try:
        played(options, holds)
    except RuntimeError as error:
        if str(error) != DEADLOCK:
            raise
        return True
    return False


def rollout_of(options: SearchOptions, index: int) -> str:
    """The first rollout of a particle of round 1."""
    generations, _, _ = played(options)
    return generations[0].particles[index].rollouts[0].workflow.workflow_id


# --- selection is the only barrier ------------------------------------------------------------


def test_a_rollout_is_scored_while_another_particles_draw_is_still_being_made() -> None:
    first = rollout_of(OPTIONS, 0)
    assert first != rollout_of(OPTIONS, 2)

    assert not waits_for_ever(OPTIONS, {"extend/1/2/0": f"score {first} done"})
    # The control: a draw that waits for its own score.
    assert waits_for_ever(OPTIONS, {"extend/1/0/0": f"score {first} done"})


def test_a_rollout_is_scored_while_its_particles_further_rollouts_are_being_made() -> None:
    first = rollout_of(OPTIONS, 0)

    assert not waits_for_ever(OPTIONS, {"complete/1/0/1": f"score {first} done"})


def test_further_rollouts_are_drawn_while_the_first_is_being_scored() -> None:
    first = rollout_of(OPTIONS, 0)

    assert not waits_for_ever(OPTIONS, {f"score {first}": "complete/1/0/1"})


def test_a_round_grows_when_all_of_the_round_before_is_scored_and_not_sooner() -> None:
    generations, stage, _ = played(replace(OPTIONS, refinements=0))
    for earlier in generations[:-1]:
        growth = [
            place
            for place, name in enumerate(stage.happened)
            if name.startswith(f"extend/{earlier.round + 1}/") and not name.endswith("done")
        ]
        for particle in earlier.particles:
            for rollout in particle.rollouts:
                name = f"score {rollout.workflow.workflow_id} done"
                assert stage.happened.index(name) < min(growth)
    for number in (1, 2):
        last = f"extend/{number}/2/0"
        assert waits_for_ever(replace(OPTIONS, refinements=0), {last: f"extend/{number + 1}/0/0"})


@pytest.mark.parametrize("edit", ["refine/1/0/0", "refine/1/2/0", f"score {EDITS[0].workflow_id}"])
def test_archived_edits_are_made_while_the_next_round_grows(edit: str) -> None:
    holds = {edit: "extend/2/1/0 done"}

    assert not waits_for_ever(OPTIONS, holds)
    assert waits_for_ever(replace(OPTIONS, refinement="inject"), holds)


def test_archived_edits_may_still_be_under_way_when_the_last_round_has_grown() -> None:
    assert not waits_for_ever(OPTIONS, {"refine/1/0/0": "extend/3/2/0 done"})


def test_the_stop_has_to_know_a_rounds_edits() -> None:
    options = replace(OPTIONS, tolerance=0.0)

    assert waits_for_ever(options, {"refine/1/0/0": "extend/2/1/0"})
    assert not waits_for_ever(options, {})


def test_a_generation_is_given_out_with_its_edits_and_in_order() -> None:
    """The first round's edits come last of all, and yet it is the first to be given out."""
    generations, stage, _ = played(OPTIONS, {"refine/1/0/0": "extend/3/2/0 done"})

    assert [generation.round for generation in generations] == [1, 2, 3]
    assert [len(generation.refinements) for generation in generations] == [3, 3, 3]
    assert stage.happened.index("refine/1/0/0 done") > stage.happened.index("extend/3/2/0 done")


# --- the refiner's lag ------------------------------------------------------------------------


@pytest.mark.parametrize("refinement", ["archive", "inject"])
def test_with_a_lag_an_edit_is_proposed_while_the_one_before_is_being_scored(
    refinement: str,
) -> None:
    options = replace(OPTIONS, refinement="inject" if refinement == "inject" else "archive")
    holds = {f"score {EDITS[0].workflow_id}": "refine/1/1/0"}

    assert not waits_for_ever(replace(options, refiner_lag=1), holds)
    assert waits_for_ever(options, holds)


def test_a_lag_of_one_is_no_lag_of_two() -> None:
    holds = {f"score {EDITS[0].workflow_id}": "refine/1/2/0"}

    assert waits_for_ever(replace(OPTIONS, refiner_lag=1), holds)


def test_without_a_lag_each_edit_comes_after_the_score_of_the_one_before() -> None:
    _, stage, _ = played(replace(OPTIONS, rounds=1))
    names = [f"refine/1/{m}/0" for m in range(3)]
    scores = [f"score {EDITS[m].workflow_id} done" for m in range(3)]

    for m in (1, 2):
        assert stage.happened.index(scores[m - 1]) < stage.happened.index(names[m])


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("slow", [None, *range(3)])
def test_what_an_edit_is_shown_depends_on_the_lag_and_not_on_the_time(
    lag: int, slow: int | None
) -> None:
    """Whichever score is late: with a lag, every edit but the last one is in the pool."""
    holds = {} if slow is None else {f"score {EDITS[slow].workflow_id}": f"refine/1/{slow}/0 done"}
    _, _, refiner = played(replace(OPTIONS, rounds=1, refiner_lag=lag), holds)
    drawn = refiner.pools[0]
    names = [workflow.workflow_id for workflow in EDITS[:3]]

    assert refiner.pools == [[*drawn, *names[: max(0, m - lag)]] for m in range(3)]
    assert refiner.seen == [{*drawn, *names[:m]} for m in range(3)]


# --- a child and what it draws ----------------------------------------------------------------


@pytest.mark.parametrize("rollouts", [1, 3])
def test_a_child_of_a_whole_workflow_is_only_scored_again(rollouts: int) -> None:
    prior = CountingPrior(GrammarPrior(STOPPING.grammar, 1))
    reward = TableReward(STOPPING.rewards)
    options = replace(OPTIONS, particles=12, rollouts=rollouts, refinements=0)
    generations = in_virtual_time(
        run(search_over(STOPPING, options, 1, prior=prior, reward=reward))
    )
    again = [
        (generation, index, particle)
        for generation in generations
        for index, particle in enumerate(generation.particles)
        if len(particle.prefix) < generation.round
    ]

    assert again
    for generation, index, particle in again:
        assert [rollout.workflow for rollout in particle.rollouts] == [particle.prefix]
        assert (particle.rollouts[0].workflow.workflow_id, generation.rows) in reward.asked
        keys = {(key.round, key.particle) for key, _ in prior.asked}
        assert (generation.round, index) not in keys


def test_further_rollouts_condition_on_the_new_step_and_the_first_does_not() -> None:
    prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
    generations = in_virtual_time(
        run(search_over(TOY, replace(OPTIONS, refinements=0), prior=prior))
    )
    asked = {key.text: prefix for key, prefix in prior.asked}

    for generation in generations[:-1]:
        for index, particle in enumerate(generation.particles):
            number = generation.round
            assert asked[f"extend/{number}/{index}/0"] == particle.prefix.prefix(number - 1)
            assert asked[f"complete/{number}/{index}/1"] == particle.prefix
    assert not [name for name in asked if name.startswith("complete/3")]


def test_the_value_of_a_particle_is_the_mean_of_its_rollouts() -> None:
    generations, _, _ = played(OPTIONS)
    for generation in generations:
        for particle in generation.particles:
            means = [rollout.evaluation.mean for rollout in particle.rollouts]
            assert particle.value == approx(sum(means) / len(means))

"""Decisions 1-5 and 11 where the paper is silent: how particles grow (docs/algorithm.md)."""

import math
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from bayesflow_sampler.archive import draws_of
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Reply
from bayesflow_sampler.prior import LLMPrior
from bayesflow_sampler.prompts import TaskBrief, load_templates
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import DrawKey, Evaluation, Generation, RowSet, Workflow
from fakes.approx import approx
from fakes.search_ports import CountingPrior, MemoryJournal, RowReward, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy
from fakes.writers import PolicyChecker, ScriptedWriter, fenced

TOY = make_toy("abc", 4, seed=11)
STOPPING = make_toy("ab", 4, seed=5, stop=True)
PLAIN = SearchOptions(
    particles=5, rollouts=3, refinements=0, rounds=3, inverse_temperature=2.0, minibatch=None
)


@dataclass
class Watched:
    """A search that has ended, and what its prior was asked."""

    generations: list[Generation]
    asked: list[tuple[DrawKey, Workflow]]

    def prefixes(self, kind: str, number: int) -> dict[tuple[int, int], Workflow]:
        """What each draw of a kind conditioned on, by particle and rollout."""
        return {
            (key.particle, key.rollout): prefix
            for key, prefix in self.asked
            if (key.kind, key.round) == (kind, number)
        }


async def watched(options: SearchOptions, *, stopping: bool = False) -> Watched:
    toy = STOPPING if stopping else TOY
    prior = CountingPrior(GrammarPrior(toy.grammar, 1))
    return Watched(await run(search_over(toy, options, 1, prior=prior)), prior.asked)


# --- 1: N empty prefixes, T rounds -------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 3])
async def test_decision_01_n_empty_prefixes_grow_for_t_rounds(rounds: int) -> None:
    search = await watched(replace(PLAIN, rounds=rounds))
    first = search.prefixes("extend", 1)

    assert first == {
        (index, 0): Workflow(TOY.grammar.complete((), 0).preamble, ()) for index in range(5)
    }
    assert [generation.round for generation in search.generations] == list(range(1, rounds + 1))
    assert max(key.round for key, _ in search.asked) == rounds
    assert [len(generation.ancestors) for generation in search.generations] == [5] * (
        rounds - 1
    ) + [0]
    assert [generation.last for generation in search.generations] == [False] * (rounds - 1) + [True]


async def test_decision_01_the_first_rounds_draws_are_n_different_ones() -> None:
    (generation,) = (await watched(replace(PLAIN, particles=40, rounds=1))).generations

    assert len({particle.prefix.workflow_id for particle in generation.particles}) > 10


# --- 2: one call, the step and the first rollout ------------------------------------------------


@pytest.mark.parametrize(("particles", "rollouts", "rounds"), [(5, 3, 3), (2, 1, 4), (4, 2, 1)])
async def test_decision_02_one_call_draws_the_step_and_the_first_rollout(
    particles: int, rollouts: int, rounds: int
) -> None:
    options = replace(PLAIN, particles=particles, rollouts=rollouts, rounds=rounds)
    search = await watched(options)

    assert len(search.asked) == particles * rollouts * (rounds - 1) + particles
    for generation in search.generations:
        drawn = search.prefixes("extend", generation.round)
        for index, particle in enumerate(generation.particles):
            written = TOY.grammar.complete(
                drawn[index, 0].steps, 1, *DrawKey("extend", generation.round, index)
            )
            assert particle.rollouts[0].workflow == written
            assert len(particle.prefix) == (4 if generation.last else generation.round)
            assert particle.prefix == written.prefix(len(particle.prefix))


async def test_decision_02_the_other_rollouts_condition_on_the_new_step() -> None:
    search = await watched(PLAIN)
    for generation in search.generations[:-1]:
        completed = search.prefixes("complete", generation.round)
        for index, particle in enumerate(generation.particles):
            assert [completed[index, k] for k in (1, 2)] == [particle.prefix] * 2
            assert all(
                rollout.workflow.prefix(generation.round) == particle.prefix
                for rollout in particle.rollouts
            )


async def test_decision_02_the_step_conditions_on_the_ancestors_steps_alone() -> None:
    first, *later = (search := await watched(PLAIN)).generations
    for generation in later:
        conditions = search.prefixes("extend", generation.round)
        for index, particle in enumerate(generation.particles):
            assert conditions[index, 0] == first.particles[first.ancestors[index]].prefix
            assert particle.prefix.prefix(first.round) == conditions[index, 0]
        first = generation


# --- 3: the prefix in the model's answer --------------------------------------------------------

BRIEF = TaskBrief("Answer the riddle.", "1 if equal, else 0.", "- No imports.", rounds=3)
RETURN = "        return said_2, 0.0\n"
OURS = "        # Step 1: Say one\n        said_1 = 'one'\n\n"
THEIRS = "        # Step 1: Say one\n        said_1 = 'none of it'\n\n"
SECOND = "        # Step 2: Say two\n        said_2 = said_1 + 'two'\n"


async def continued(*replies: str) -> tuple[Workflow, Workflow, ScriptedWriter]:
    """Our prefix of one step, what is drawn behind it, and the writer that was asked."""
    key = DrawKey("extend", 2, 0)
    names = ["extend/1/0/0", key.text, f"{key.text}/repair-1", f"{key.text}/repair-2"]
    start = fenced(OURS + SECOND + RETURN)
    model = ScriptedWriter(
        dict(zip(names, map(Reply, (start, *map(fenced, replies))), strict=False))
    )
    prior = LLMPrior(model, PolicyChecker(), load_templates(), BRIEF)
    prefix = (await prior.extend(prior.root, DrawKey("extend", 1, 0))).prefix(1)
    return prefix, await prior.extend(prefix, key), model


CALL = "    async def __call__(self, problem):\n"
INIT = "    def __init__(self, name, llm_config, dataset):\n        self.llm = 'theirs'\n\n"


@pytest.mark.parametrize(
    "answer",
    [
        THEIRS + SECOND + RETURN,
        OURS + SECOND + RETURN,
        SECOND + RETURN,
        f"class Workflow:\n{INIT}{CALL}{THEIRS}{SECOND}{RETURN}",
        f"import re\n\n\nclass Workflow:\n{CALL}{THEIRS}{SECOND}{RETURN}",
    ],
)
async def test_decision_03_the_stored_prefix_stands_whatever_the_answer_repeats(
    answer: str,
) -> None:
    prefix, drawn, model = await continued(answer)

    assert len(model.asked) == 2
    assert drawn.preamble == prefix.preamble
    assert drawn.steps[:1] == prefix.steps
    assert [step.title for step in drawn.steps] == ["Say one", "Say two"]
    assert "none of it" not in drawn.source
    assert "theirs" not in drawn.source


async def test_decision_03_a_step_that_would_change_the_prefixs_meaning_is_refused() -> None:
    """What follows a loop with `else` belongs to the loop: it is no new step."""
    key = DrawKey("extend", 2, 0)
    loop = "        # Step 1: Look\n        for said_1 in problem:\n            break\n\n"
    model = ScriptedWriter(
        {
            "extend/1/0/0": fenced(loop + SECOND + RETURN),
            key.text: fenced(
                "        # Step 2: Else\n        else:\n            said_2 = 1\n" + RETURN
            ),
            f"{key.text}/repair-1": fenced(SECOND + RETURN),
        }
    )
    prior = LLMPrior(model, PolicyChecker(), load_templates(), BRIEF)
    prefix = (await prior.extend(prior.root, DrawKey("extend", 1, 0))).prefix(1)
    drawn = await prior.extend(prefix, key)

    assert drawn.prefix(1) == prefix
    assert model.names[-1] == f"{key.text}/repair-1"


# --- 4: workflows shorter than T ----------------------------------------------------------------

LONG_RUN = replace(PLAIN, particles=12, rollouts=2, rounds=4)


def short(generation: Generation) -> list[int]:
    """Particles that ended in an earlier round."""
    return [
        index
        for index, particle in enumerate(generation.particles)
        if len(particle.prefix) < generation.round
    ]


async def test_decision_04_a_short_workflow_is_drawn_no_further() -> None:
    search = await watched(LONG_RUN, stopping=True)
    for generation in search.generations[1:]:
        ended = set(short(generation))
        drawn = search.prefixes("extend", generation.round)
        assert ended
        assert {index for index, _ in drawn} == set(range(12)) - ended
        assert not ended & {index for index, _ in search.prefixes("complete", generation.round)}


async def test_decision_04_a_short_workflow_counts_once_a_particle_in_every_rounds_estimate() -> (
    None
):
    for generation in (await watched(LONG_RUN, stopping=True)).generations[1:]:
        found = Counter((name, share) for _, name, share, *_ in draws_of(generation))
        expected = Counter(
            (particle.prefix.workflow_id, particle.log_weight - math.log(12))
            for index, particle in enumerate(generation.particles)
            if index in short(generation)
        )
        assert expected
        assert expected <= found
        assert len(draws_of(generation)) == sum(len(p.rollouts) for p in generation.particles)


@pytest.mark.parametrize("weighting", ["exact", "paper"])
async def test_decision_04_a_short_workflow_is_scored_in_every_round(weighting: str) -> None:
    """Under paper weighting this multiplies its weight by exp(βR) each round (padding)."""
    options = replace(LONG_RUN, weighting="paper" if weighting == "paper" else "exact")
    for generation in (await watched(options, stopping=True)).generations[1:]:
        assert short(generation)
        for index in short(generation):
            particle = generation.particles[index]
            reward = STOPPING.rewards[particle.prefix.workflow_id]
            assert [one.workflow for one in particle.rollouts] == [particle.prefix]
            assert particle.score == approx(2.0 * reward)
            if weighting == "paper":
                assert particle.log_weight == 0


async def test_decision_04_a_short_workflows_minibatch_reward_is_completed_in_the_last_round() -> (
    None
):
    reward = RowReward(STOPPING.rewards, rows=20)
    options = replace(LONG_RUN, minibatch=2)
    *earlier, last = await run(search_over(STOPPING, options, 1, reward=reward))

    assert any(map(short, earlier))
    assert short(last)
    for index in short(last):
        particle = last.particles[index]
        full = reward.full(particle.prefix.workflow_id)
        assert len(particle.rollouts[0].evaluation.scores) == 20
        assert particle.score == approx(2.0 * full)


# --- 5: workflows longer than T -----------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2, 3])
async def test_decision_05_the_last_round_takes_all_that_is_left_as_its_step(rounds: int) -> None:
    search = await watched(replace(PLAIN, rounds=rounds))
    *earlier, last = search.generations

    for generation in earlier:
        assert {len(particle.prefix) for particle in generation.particles} == {generation.round}
    assert search.prefixes("complete", rounds) == {}
    for particle in last.particles:
        assert len(particle.prefix) == 4
        assert particle.terminal
        assert [rollout.workflow for rollout in particle.rollouts] == [particle.prefix]
        assert particle.score == approx(2.0 * TOY.rewards[particle.prefix.workflow_id])


# --- 11: outages --------------------------------------------------------------------------------


@dataclass
class Flaky:
    """A reward, a prior or a refiner's own reward that is out of reach for one call."""

    inner: TableReward
    fails_at: int
    calls: int = 0

    def size(self, split: str) -> int:
        return self.inner.size(split)

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        self.calls += 1
        if self.calls == self.fails_at:
            raise ConnectionError("429: too many requests")
        return await self.inner.score(workflow, rows)


OUTAGE = replace(PLAIN, refinements=1, rounds=2)
REFINER = GrammarRefiner(TOY.grammar, 0)


@pytest.mark.parametrize("fails_at", [1, 8, 16, 17, 22])
async def test_decision_11_an_outage_ends_the_search_and_is_never_a_score(fails_at: int) -> None:
    reward, journal = TableReward(TOY.rewards), MemoryJournal()
    flaky = Flaky(reward, fails_at)
    search = search_over(TOY, OUTAGE, reward=flaky, refiner=REFINER, journal=journal)
    found: list[Generation] = []
    with pytest.raises((ExceptionGroup, ConnectionError)) as ended:
        found += [generation async for generation in search.generations()]

    assert flaky.calls >= fails_at
    if isinstance(ended.value, ExceptionGroup):
        assert ended.group_contains(ConnectionError, match="429")
    kept = len(journal.draws)
    prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
    whole = await run(search_over(TOY, OUTAGE, reward=reward, refiner=REFINER))
    resumed = search_over(TOY, OUTAGE, prior=prior, reward=reward, refiner=REFINER, journal=journal)
    assert found == whole[: len(found)]
    assert await run(resumed) == whole
    # What was drawn before is not drawn again: N·K·(T−1) + N draws and T·M edits in all.
    assert kept > 0
    assert len(journal.draws) == 5 * 3 + 5 + 2
    edits = sum(key.startswith("refine") for key in list(journal.draws)[kept:])
    assert len(prior.asked) == len(journal.draws) - kept - edits

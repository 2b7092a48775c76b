"""Workflows handed in to a search that is under way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.codec import decode_workflows
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import DrawKey, Evaluation, Generation, RowSet, Workflow
from fakes.search_ports import ChattyPrior, MemoryJournal, RowReward, ScriptedRefiner, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy, workflow_of

TOY = make_toy("ab", 3, seed=2, stop=True)
OPTIONS = SearchOptions(
    particles=4, refinements=1, rounds=3, inverse_temperature=1.0, minibatch=None
)
FOREIGN = [workflow_of(word) for word in ("xyz", "zyx", "xxx")]
EDIT = workflow_of("yyy")


@dataclass
class Given:
    """Gives out workflows by round; refuses to be asked twice about one."""

    by_round: Mapping[int, Sequence[Workflow]]
    asked: list[int] = field(default_factory=list[int])

    async def take(self, number: int) -> Sequence[Workflow]:
        assert number not in self.asked
        self.asked.append(number)
        return self.by_round.get(number, ())


class PowerCutError(Exception):
    """What a test raises in the middle of a round."""


@dataclass
class FailingReward(RowReward):
    """Loses power when it is to score one workflow."""

    fatal: str = ""

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        if workflow.workflow_id == self.fatal:
            raise PowerCutError
        return await super().score(workflow, rows)


def reward() -> RowReward:
    others = {one.workflow_id: 0.5 for one in (*FOREIGN, EDIT)}
    return RowReward({**TOY.rewards, **others}, rows=6)


def search(options: SearchOptions = OPTIONS, given: Given | None = None) -> Search:
    made = search_over(TOY, options, reward=reward(), refiner=ScriptedRefiner([EDIT]))
    made.suggestions = given
    return made


def ids(workflows: Sequence[Workflow]) -> list[str]:
    return [workflow.workflow_id for workflow in workflows]


def refined(generation: Generation) -> list[str]:
    return [candidate.workflow.workflow_id for candidate in generation.refinements]


async def test_each_round_takes_what_was_handed_in_and_puts_it_before_its_edits() -> None:
    given = Given({1: FOREIGN[:2], 3: FOREIGN[2:]})
    generations = await run(search(OPTIONS, given))
    edit = EDIT.workflow_id
    assert given.asked == [1, 2, 3]
    assert [refined(one) for one in generations] == [
        [*ids(FOREIGN[:2]), edit],
        [edit],
        [*ids(FOREIGN[2:]), edit],
    ]


async def test_it_is_scored_on_the_rounds_rows_as_submitted_and_not_clean() -> None:
    options = replace(OPTIONS, minibatch=2, rounds=2)
    first = (await run(search(options, Given({1: FOREIGN[:1]}))))[0]
    candidate = first.refinements[0]
    assert (candidate.origin, candidate.clean, candidate.round) == ("submitted", False, 1)
    assert candidate.parent_id is None
    assert candidate.evaluation.rows == first.rows


async def test_the_refiner_sees_it_and_may_edit_it() -> None:
    refiner = ScriptedRefiner([EDIT])
    made = search_over(TOY, OPTIONS, reward=reward(), refiner=refiner)
    made.suggestions = Given({1: FOREIGN[:2]})
    await run(made)
    assert refiner.pools[0][-2:] == ids(FOREIGN[:2])
    assert set(ids(FOREIGN[:2])) <= refiner.seen[0]


async def test_a_workflow_that_the_round_holds_already_is_not_scored_again() -> None:
    options = replace(OPTIONS, rounds=1)
    drawn = (await run(search(options)))[0].particles[0].rollouts[0].workflow
    table = TableReward({**TOY.rewards, FOREIGN[0].workflow_id: 0.5, EDIT.workflow_id: 0.5})
    made = search_over(TOY, options, reward=table, refiner=ScriptedRefiner([EDIT]))
    made.suggestions = Given({1: [drawn, FOREIGN[0], FOREIGN[0]]})
    (first,) = await run(made)
    assert refined(first) == [FOREIGN[0].workflow_id, EDIT.workflow_id]
    asked = [name for name, _ in table.asked]
    assert asked.count(FOREIGN[0].workflow_id) == 1
    shown = [c.workflow.workflow_id for p in first.particles for c in p.rollouts]
    assert asked.count(drawn.workflow_id) == shown.count(drawn.workflow_id)


INJECT = replace(OPTIONS, refinement="inject", refinements=0)
LOVED = TableReward({**TOY.rewards, FOREIGN[0].workflow_id: 400.0})


async def test_under_injection_it_competes_for_selection_as_a_refinement_does() -> None:
    made = search_over(
        TOY, INJECT, prior=ChattyPrior(GrammarPrior(TOY.grammar, 0), FOREIGN[0]), reward=LOVED
    )
    made.suggestions = Given({1: FOREIGN[:1]})
    first, second, _ = await run(made)
    entry = first.injected[0]
    assert (entry.prefix, entry.clean) == (FOREIGN[0].prefix(1), False)
    assert first.ancestors == (4, 4, 4, 4)
    assert not any(particle.clean for particle in second.particles)


async def test_a_grammar_which_cannot_go_on_with_foreign_steps_is_not_asked_to() -> None:
    made = search_over(TOY, INJECT, reward=LOVED)
    made.suggestions = Given({1: FOREIGN[:1]})
    generations = await run(made)
    assert refined(generations[0]) == ids(FOREIGN[:1])
    assert [generation.injected for generation in generations] == [(), (), ()]


@pytest.mark.parametrize("minibatch", [None, 2])
async def test_archived_it_leaves_particles_posterior_and_evidence_alone(
    minibatch: int | None,
) -> None:
    options = replace(OPTIONS, minibatch=minibatch)
    given = Given({number: FOREIGN[number - 1 : number] for number in (1, 2, 3)})
    ours, plain = await run(search(options, given)), await run(search(options))
    assert [one.particles for one in ours] == [one.particles for one in plain]
    assert [one.ancestors for one in ours] == [one.ancestors for one in plain]
    archives = [Archive(6, pool_rounds=True) for _ in range(2)]
    for archive, generations in zip(archives, (ours, plain), strict=True):
        for generation in generations:
            archive.add(generation)
    assert archives[0].posterior(1.0) == archives[1].posterior(1.0)
    assert set(archives[0].entries) - set(archives[1].entries) == set(ids(FOREIGN))


async def test_what_was_handed_in_is_journalled_before_it_is_used() -> None:
    journal = MemoryJournal()
    made = search_over(
        TOY,
        OPTIONS,
        reward=FailingReward(reward().rewards, rows=6, fatal=FOREIGN[0].workflow_id),
        refiner=ScriptedRefiner([EDIT]),
        journal=journal,
    )
    made.suggestions = Given({1: FOREIGN[:1]})
    with pytest.raises(ExceptionGroup):
        await run(made)
    kept = journal.draws[DrawKey("suggest", 1, 0).text]
    assert decode_workflows(kept) == tuple(FOREIGN[:1])


async def test_a_resumed_search_asks_only_from_the_round_where_it_stopped() -> None:
    """What comes later does not move into rounds that have been."""
    journal = MemoryJournal()

    def made(given: Given) -> Search:
        refiner = GrammarRefiner(TOY.grammar, 0)
        one = search_over(TOY, OPTIONS, reward=reward(), refiner=refiner, journal=journal)
        one.suggestions = given
        return one

    first, *_ = await run(made(Given({1: FOREIGN[:1]})))
    for key in [key for key in journal.draws if key.split("/")[1] != "1"]:
        del journal.draws[key]
    later = Given({1: FOREIGN[1:], 2: FOREIGN[1:2]})
    resumed = await run(made(later))
    assert later.asked == [2, 3]
    assert resumed[0] == first
    assert refined(resumed[1])[:1] == ids(FOREIGN[1:2])


async def test_a_replay_asks_for_nothing_and_gives_the_same_generations() -> None:
    journal = MemoryJournal()
    generations: list[list[Generation]] = []
    asked: list[list[int]] = []
    for given in (Given({1: FOREIGN[:2], 2: FOREIGN[2:]}), Given({})):
        one = search_over(
            TOY,
            INJECT,
            prior=ChattyPrior(GrammarPrior(TOY.grammar, 0), FOREIGN[0]),
            reward=LOVED,
            journal=journal,
        )
        one.suggestions = given
        generations.append(await run(one))
        asked.append(given.asked)
    assert generations[0] == generations[1]
    assert asked == [[1, 2, 3], []]


async def test_a_search_without_suggestions_journals_none() -> None:
    journal = MemoryJournal()
    made = search_over(TOY, replace(OPTIONS, refinements=0), reward=reward(), journal=journal)
    await run(made)
    assert not [key for key in journal.draws if key.startswith("suggest")]

"""The early stop: when, why, and that it is decided once."""

import math
from dataclasses import dataclass, field, replace

import pytest

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.controller import Controller
from bayesflow_sampler.improvement import expected_improvement, outlook_of, shrunk_best
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.shrinkage import reward_variance
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import Decision, Evaluation, Generation, RowSet
from fakes.approx import approx
from fakes.search_ports import MemoryJournal, RowReward, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy

TOY = make_toy("abc", 4, seed=3)
OPTIONS = SearchOptions(
    particles=4,
    rollouts=2,
    refinements=1,
    rounds=6,
    inverse_temperature=3.0,
    minibatch=4,
    tolerance=0.02,
)
REWARD = RowReward(TOY.rewards, rows=12)


@dataclass
class Pocket:
    """Pays for rounds before `empty_at`; keeps what it was asked."""

    empty_at: int = 99
    asked: list[int] = field(default_factory=list[int])

    async def refuses(self, number: int) -> str | None:
        self.asked.append(number)
        return f"round {number} would cost more than is left" if number >= self.empty_at else None


def search(
    options: SearchOptions = OPTIONS,
    purse: Pocket | None = None,
    journal: MemoryJournal | None = None,
    seed: int = 0,
) -> Search:
    made = search_over(
        TOY, options, seed, reward=REWARD, refiner=GrammarRefiner(TOY.grammar, 0), journal=journal
    )
    made.purse = purse
    return made


def evaluation(*scores: float) -> Evaluation:
    return Evaluation("wf_0", RowSet("validation", tuple(range(len(scores)))), scores)


GOOD = evaluation(1.0, 1.0, 1.0, 0.0)
POOR = evaluation(0.0, 0.0, 1.0, 0.0)


def controller(tolerance: float | None, rounds: int = 5) -> Controller:
    return Controller(
        SearchOptions(rounds=rounds, inverse_temperature=1.0, tolerance=tolerance), 4, 0
    )


# --- the decision -----------------------------------------------------------------------------


def gain(*groups: list[Evaluation]) -> float:
    every = [one for group in groups for one in group]
    variance = reward_variance(every)
    found = [one for group in groups if (one := outlook_of(group, variance)) is not None]
    return expected_improvement(shrunk_best(every, variance), found)


def test_it_stops_exactly_when_the_expected_improvement_is_below_the_tolerance() -> None:
    expected = gain([GOOD, POOR], [GOOD])
    assert 0.01 < expected < 0.5

    assert controller(expected).stop(1, [GOOD, POOR], [GOOD]) is None
    assert controller(math.nextafter(expected, 1)).stop(1, [GOOD, POOR], [GOOD]) is not None


def test_a_smaller_tolerance_never_stops_sooner() -> None:
    stops = [
        controller(tolerance / 100).stop(1, [GOOD, POOR], [POOR]) is not None
        for tolerance in range(101)
    ]

    assert stops == sorted(stops)
    assert set(stops) == {False, True}


def test_the_decision_says_how_little_is_expected_and_what_it_costs_the_evidence() -> None:
    decision = controller(1.0, rounds=5).stop(2, [GOOD, POOR], [GOOD])
    best, expected = shrunk_best([GOOD, POOR, GOOD]), gain([GOOD, POOR], [GOOD])

    assert decision is not None
    assert decision.choice == "stopped after round 2 of 5"
    assert decision.reason == (
        f"a further round is expected to improve the shrunk best ({best:.3f}) by {expected:.4f}, "
        "less than the tolerance of 1"
    )
    assert decision.guarantee == (
        "the stop depended on the rewards, so the evidence is not claimed to be unbiased; the "
        "test score of the final pick is not touched by it"
    )


def test_the_best_of_earlier_rounds_counts() -> None:
    later = [evaluation(1.0, 1.0, 0.0, 0.0), POOR]
    chooser = controller(gain(later))
    assert chooser.stop(1, later, []) is None
    assert chooser.stop(2, later, []) is None

    chooser.stop(3, [GOOD], [])
    assert chooser.stop(4, later, []) is not None


def test_without_edits_the_rollouts_alone_are_the_outlook() -> None:
    decision = controller(1.0).stop(1, [GOOD, POOR], [])

    assert decision is not None
    assert f"by {gain([GOOD, POOR]):.4f}" in decision.reason


def test_without_a_tolerance_it_never_stops() -> None:
    assert controller(None).stop(1, [GOOD], [GOOD]) is None


def test_after_the_last_round_there_is_nothing_to_stop() -> None:
    assert controller(1.0, rounds=3).stop(3, [GOOD], [GOOD]) is None


def test_an_empty_purse_is_a_reason_of_its_own() -> None:
    decision = controller(0.1, rounds=5).stop_for(2, "round 3 would cost more than is left")

    assert decision.sentence.startswith(
        "stopped after round 2 of 5: round 3 would cost more than is left; the stop depended"
    )


# --- in a search ------------------------------------------------------------------------------


def kept(generations: list[Generation]) -> list[str]:
    return [d.choice for g in generations for d in g.decisions if "stopped" in d.choice]


async def test_a_search_that_expects_too_little_stops_after_a_round() -> None:
    generations = await run(search())
    last = generations[-1]

    assert 1 <= len(generations) < 6
    assert [generation.last for generation in generations[:-1]] == [False] * (last.round - 1)
    assert last.last
    assert kept(generations) == [f"stopped after round {last.round} of 6"]
    assert last.ancestors == ()
    assert not last.resampled


@pytest.mark.parametrize("tolerance", [0.0, 0.005, 0.02, 0.1])
async def test_it_stops_in_the_round_that_its_own_figures_say(tolerance: float) -> None:
    """Reckoned again from the generations of a search that does not stop."""
    whole = await run(search(replace(OPTIONS, tolerance=None)))
    chooser = Controller(replace(OPTIONS, tolerance=tolerance), 12, 0)
    due = 6
    for generation in whole[:-1]:
        rollouts = [r.evaluation for p in generation.particles for r in p.rollouts]
        edits = [edit.evaluation for edit in generation.refinements]
        if chooser.stop(generation.round, rollouts, edits) is not None:
            due = generation.round
            break

    assert len(await run(search(replace(OPTIONS, tolerance=tolerance)))) == due
    assert due == {0.0: 6, 0.005: 6, 0.02: 3, 0.1: 1}[tolerance]


async def test_a_larger_tolerance_stops_no_later() -> None:
    lengths = [
        len(await run(search(replace(OPTIONS, tolerance=tolerance / 250))))
        for tolerance in range(26)
    ]

    assert lengths == sorted(lengths, reverse=True)
    assert set(lengths) == {6, 5, 3, 1}


@pytest.mark.parametrize("refinement", ["archive", "inject"])
async def test_the_round_that_it_stops_after_is_scored_in_full_and_pooled(refinement: str) -> None:
    options = replace(OPTIONS, refinement="inject" if refinement == "inject" else "archive")
    generations = await run(search(options))
    last = generations[-1]
    archive = Archive(12)
    for generation in generations:
        archive.add(generation)
    posterior = archive.posterior(3.0)

    assert last.round > 1
    assert not generations[0].fully_scored
    assert last.fully_scored
    assert last.rows == RowSet("validation", tuple(range(12)))
    assert last.injected == ()
    for particle in last.particles:
        for rollout in particle.rollouts:
            assert rollout.evaluation.mean == approx(REWARD.full(rollout.workflow.workflow_id))
        mean = sum(r.evaluation.mean for r in particle.rollouts) / len(particle.rollouts)
        assert particle.value == approx(mean)
    assert posterior is not None
    assert posterior.rounds == (last.round,)


async def test_what_it_finds_until_the_stop_is_what_it_would_have_found() -> None:
    stopped = await run(search())
    whole = await run(search(replace(OPTIONS, tolerance=None)))

    assert stopped[:-1] == whole[: len(stopped) - 1]
    assert stopped[-1].refinements == whole[len(stopped) - 1].refinements
    assert [p.prefix for p in stopped[-1].particles] == [
        p.prefix for p in whole[len(stopped) - 1].particles
    ]


# --- the purse --------------------------------------------------------------------------------


async def test_the_purse_is_asked_about_the_next_round_and_only_with_a_tolerance() -> None:
    asked, unasked = Pocket(), Pocket()
    generations = await run(search(replace(OPTIONS, tolerance=0.0), asked))
    await run(search(replace(OPTIONS, tolerance=None), unasked))

    assert len(generations) == 6
    assert asked.asked == [2, 3, 4, 5, 6]
    assert unasked.asked == []


async def test_a_round_that_is_not_worth_it_is_not_asked_about() -> None:
    pocket = Pocket()
    generations = await run(search(replace(OPTIONS, tolerance=1.0), pocket))

    assert len(generations) == 1
    assert pocket.asked == []


async def test_what_cannot_be_paid_ends_the_search_in_the_purses_own_words() -> None:
    generations = await run(search(replace(OPTIONS, tolerance=0.0), Pocket(empty_at=4)))

    assert [generation.last for generation in generations] == [False, False, True]
    assert generations[-1].fully_scored
    assert (
        generations[-1]
        .notes[-1]
        .startswith("stopped after round 3 of 6: round 4 would cost more than is left; ")
    )


# --- decided once -----------------------------------------------------------------------------


async def test_each_decision_is_journaled_the_last_round_has_none() -> None:
    journal = MemoryJournal()
    await run(search(replace(OPTIONS, tolerance=0.0), journal=journal))
    stops = [key for key in journal.draws if key.startswith("stop")]

    assert stops == [f"stop/{number}/0/0" for number in range(1, 6)]


@pytest.mark.parametrize("purse", [Pocket(empty_at=99), Pocket(empty_at=2), None])
async def test_a_replay_with_another_purse_stops_where_the_first_did(purse: Pocket | None) -> None:
    journal = MemoryJournal()
    options = replace(OPTIONS, tolerance=0.0)
    first = await run(search(options, Pocket(empty_at=4), journal))
    drawn = dict(journal.draws)

    again = await run(search(options, purse, journal))

    assert again == first
    assert journal.draws == drawn
    assert purse is None or purse.asked == []


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("tolerance", [0.005, 0.02])
async def test_a_resumed_search_stops_where_it_would_have_stopped(
    seed: int, tolerance: float
) -> None:
    """It was cut off before each decision in turn; the best of the rounds it repeats counts."""
    options = replace(OPTIONS, tolerance=tolerance)
    journal = MemoryJournal()
    whole = await run(search(options, None, journal, seed))
    for number in range(1, len(whole) + 1):
        left = MemoryJournal(
            {
                key: draw
                for key, draw in journal.draws.items()
                if not (key.startswith("stop") and int(key.split("/")[1]) >= number)
            }
        )
        assert await run(search(options, None, left, seed)) == whole


async def test_the_decision_survives_its_journal_word_for_word() -> None:
    journal = MemoryJournal()
    options = replace(OPTIONS, tolerance=0.0)
    (first,) = await run(search(options, Pocket(empty_at=2), journal))
    (again,) = await run(search(options, None, journal))

    assert isinstance(again.decisions[-1], Decision)
    assert again.decisions == first.decisions


async def test_rewards_at_their_top_stop_a_search_at_once() -> None:
    reward = TableReward(dict.fromkeys(TOY.rewards, 1.0), rows=200)
    made = search_over(
        TOY,
        replace(OPTIONS, tolerance=0.001),
        reward=reward,
        refiner=GrammarRefiner(TOY.grammar, 0),
    )

    assert len(await run(made)) == 1


def test_nobody_knows_what_another_round_may_bring_while_all_rewards_are_equal() -> None:
    """Five workflows that all fail in round 1 are no reason to give up."""
    lost = [evaluation(0.0, 0.0, 0.0, 0.0)] * 5
    chooser = controller(1.0)

    assert chooser.stop(1, lost, lost[:1]) is None
    assert chooser.stop(2, [*lost, POOR], []) is not None

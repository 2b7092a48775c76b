import math

import pytest

from bayesflow_sampler.types import RowSet
from bench.efficiency.landscapes import make_landscape, words
from bench.efficiency.rows import Answers, MeteredReward

ALL = RowSet("validation", tuple(range(30)))
SOME = RowSet("validation", (2, 3, 5, 7))


@pytest.fixture(scope="module", name="answers")
def _answers() -> Answers:
    return Answers(make_landscape("rugged", 1, flat=False), 30, 1)


async def test_rows_that_were_asked_before_cost_nothing(answers: Answers) -> None:
    reward, word = MeteredReward(answers), words().workflows[40]
    await reward.score(word, SOME)
    assert reward.executions == 4
    await reward.score(word, RowSet("validation", (5, 7, 11)))
    assert reward.executions == 5
    await reward.score(word, ALL)
    await reward.score(word, ALL)
    assert reward.executions == 30
    assert reward.evaluations == 1.0
    await reward.score(words().workflows[41], SOME)
    assert reward.executions == 34


async def test_a_minibatch_has_the_answers_of_the_whole(answers: Answers) -> None:
    reward, word = MeteredReward(answers), words().workflows[3]
    whole = (await reward.score(word, ALL)).scores
    assert (await reward.score(word, SOME)).scores == tuple(whole[i] for i in SOME.positions)
    assert math.isclose(sum(whole) / 30, answers.reward[3])


def test_answers_are_as_right_as_the_truth_says(answers: Answers) -> None:
    # z of the total over all words: beyond 4 once in 16,000 seeds.
    truth = answers.landscape.truth
    variance = (truth * (1 - truth) / 30).sum()
    assert abs((answers.reward - truth).sum()) / math.sqrt(variance) < 4


def test_the_expectation_begins_at_the_prior_and_climbs_with_beta(answers: Answers) -> None:
    prior_mean = float((answers.landscape.prior * answers.reward).sum())
    assert math.isclose(answers.expectation(0.0), prior_mean)
    values = [answers.expectation(beta) for beta in (0.0, 1.0, 10.0, 100.0)]
    assert values == sorted(values)
    assert values[-1] < answers.reward.max()
    assert answers.reward.max() - answers.expectation(600.0) < 1e-3

import math
from dataclasses import replace

from bayesflow_sampler.archive import Archive, Draw, draws_of, weigh
from bayesflow_sampler.types import (
    Candidate,
    Evaluation,
    Generation,
    Origin,
    Particle,
    RowSet,
    Workflow,
)
from fakes.approx import approx
from fakes.toys import workflow_of

A, B, C = (workflow_of(word) for word in ("a", "b", "c"))


def candidate(
    workflow: Workflow,
    *scores: float,
    rows: tuple[int, ...] = (0, 1),
    clean: bool = True,
    origin: Origin = "prior",
    failure: str | None = None,
    number: int = 1,
) -> Candidate:
    evaluation = Evaluation(workflow.workflow_id, RowSet("validation", rows), scores, failure)
    return Candidate(workflow, evaluation, number, origin, clean=clean)


def particle(
    log_weight: float, *rollouts: Candidate, clean: bool = True, island: int = 0
) -> Particle:
    return Particle(
        rollouts[0].workflow,
        log_weight,
        0.0,
        0.0,
        rollouts,
        clean,
        -1,
        terminal=False,
        island=island,
    )


def generation(
    number: int,
    *particles: Particle,
    refinements: tuple[Candidate, ...] = (),
    fully_scored: bool = True,
) -> Generation:
    rows = RowSet("validation", (0, 1) if fully_scored else (0,))
    return Generation(
        number, 3, 1.0, rows, fully_scored, particles, refinements, (), (), float(len(particles))
    )


def archive_of(*generations: Generation, pool_rounds: bool = True, islands: int = 1) -> Archive:
    archive = Archive(2, pool_rounds=pool_rounds, islands=islands)
    for one in generations:
        archive.add(one)
    return archive


FIRST = generation(
    1,
    particle(0.5, candidate(A, 1.0, 0.0), candidate(B, 1.0, 1.0)),
    particle(-0.5, candidate(A, 1.0, 0.0), candidate(A, 1.0, 0.0)),
)
SECOND = generation(2, particle(0.2, candidate(B, 1.0, 1.0)), particle(0.1, candidate(C, 0.0, 0.0)))


def test_decision_15_the_posterior_is_the_weighted_archive() -> None:
    """By hand: w = exp(ℓ)·exp(β·R)/(N·K), R(a) = ½, R(b) = 1, R(c) = 0, β = 2."""
    posterior = archive_of(FIRST).posterior(2.0)
    assert posterior is not None
    a = (math.exp(0.5) + 2 * math.exp(-0.5)) / 4 * math.exp(1.0)
    b = math.exp(0.5) / 4 * math.exp(2.0)

    assert posterior.probability == approx({A.workflow_id: a / (a + b), B.workflow_id: b / (a + b)})
    assert posterior.log_evidence == approx(math.log(a + b))
    assert posterior.rounds == (1,)
    draws = [w / 4 for w in (math.exp(1.5), math.exp(2.5), math.exp(0.5), math.exp(0.5))]
    assert posterior.effective_sample_size == approx(sum(draws) ** 2 / sum(w * w for w in draws))


def test_decision_15_pooled_rounds_average_their_evidence() -> None:
    first, second = (archive_of(one).posterior(2.0) for one in (FIRST, SECOND))
    both = archive_of(FIRST, SECOND).posterior(2.0)
    assert first is not None
    assert second is not None
    assert both is not None
    z1, z2 = math.exp(first.log_evidence), math.exp(second.log_evidence)

    assert both.rounds == (1, 2)
    assert math.exp(both.log_evidence) == approx((z1 + z2) / 2)
    b = z1 * first.probability[B.workflow_id] + z2 * second.probability[B.workflow_id]
    assert both.probability[B.workflow_id] == approx(b / (z1 + z2))


def test_without_pooling_the_last_round_counts_alone() -> None:
    alone = archive_of(FIRST, SECOND, pool_rounds=False).posterior(2.0)

    assert alone == archive_of(SECOND).posterior(2.0)


def test_decision_15_beta_is_changed_after_the_run_without_a_call() -> None:
    archive = archive_of(FIRST)
    flat, steep = archive.posterior(1e-9), archive.posterior(200.0)
    assert flat is not None
    assert steep is not None

    prior_weight = math.exp(0.5) / (2 * math.exp(0.5) + 2 * math.exp(-0.5))
    assert flat.probability[B.workflow_id] == approx(prior_weight)
    assert steep.probability[B.workflow_id] == approx(1.0)


def test_decision_06_only_clean_lineages_count_and_the_sum_is_divided_by_n() -> None:
    unclean = particle(3.0, candidate(C, 1.0, 1.0, clean=False), clean=False)
    clean = particle(0.5, candidate(A, 1.0, 0.0))
    archive = archive_of(generation(1, clean, unclean))
    posterior = archive.posterior(2.0)
    assert posterior is not None

    assert posterior.probability == {A.workflow_id: 1.0}
    assert posterior.log_evidence == approx(math.log(math.exp(0.5) * math.exp(1.0) / 2))
    assert C.workflow_id in archive.entries
    assert draws_of(generation(1, clean, unclean)) == [Draw(1, A.workflow_id, 0.5 - math.log(2))]


def test_decision_06_no_clean_lineage_means_no_posterior() -> None:
    unclean = particle(0.0, candidate(A, 1.0, 1.0, clean=False), clean=False)

    assert archive_of(generation(1, unclean)).posterior(1.0) is None
    assert Archive(2).posterior(1.0) is None


def test_decision_06_a_round_without_clean_lineages_is_not_passed_over_for_an_earlier_one() -> None:
    unclean = particle(0.0, candidate(C, 1.0, 1.0, clean=False), clean=False)
    last = generation(2, unclean, unclean)
    pooled = archive_of(FIRST, last).posterior(2.0)
    first = archive_of(FIRST).posterior(2.0)
    assert pooled is not None
    assert first is not None

    assert archive_of(FIRST, last, pool_rounds=False).posterior(2.0) is None
    assert pooled.probability == approx(first.probability)
    assert pooled.log_evidence == approx(first.log_evidence - math.log(2))
    assert pooled.rounds == (1, 2)


def test_decision_14_a_round_with_a_partly_scored_rollout_is_left_out() -> None:
    partly = generation(
        2,
        particle(0.0, candidate(A, 1.0, rows=(0,))),
        particle(0.0, candidate(C, 1.0, rows=(0,))),
        fully_scored=False,
    )
    archive = archive_of(FIRST, partly)
    before = archive.posterior(2.0)
    assert before == archive_of(FIRST).posterior(2.0)

    archive.add_evaluation(Evaluation(C.workflow_id, RowSet("validation", (1,)), (0.0,)))
    after = archive.posterior(2.0)
    assert after is not None
    assert after.rounds == (1, 2)


def test_decision_14_a_minibatch_round_without_clean_lineages_is_left_out() -> None:
    unclean = particle(0.0, candidate(C, 1.0, rows=(0,), clean=False), clean=False)
    archive = archive_of(FIRST, generation(2, unclean, fully_scored=False))

    assert archive.posterior(2.0) == archive_of(FIRST).posterior(2.0)


def test_nothing_fully_scored_means_no_posterior() -> None:
    partly = generation(1, particle(0.0, candidate(A, 1.0, rows=(0,))), fully_scored=False)

    assert archive_of(partly).posterior(1.0) is None


def test_rows_of_several_rounds_are_merged_by_position() -> None:
    archive = Archive(3)
    archive.add_candidate(candidate(A, 1.0, 0.5, rows=(0, 2)))
    assert archive.full_reward(A.workflow_id) is None

    archive.add_candidate(candidate(A, 0.0, rows=(1,), number=2))
    entry = archive.entries[A.workflow_id]
    assert entry.round == 1
    assert entry.evaluation.rows.positions == (0, 1, 2)
    assert entry.evaluation.scores == (1.0, 0.0, 0.5)
    assert archive.full_reward(A.workflow_id) == approx(0.5)


def test_a_workflow_that_does_not_run_has_the_reward_zero_from_any_rows() -> None:
    archive = Archive(3)
    archive.add_candidate(candidate(A, 0.0, rows=(1,), failure="NameError"))

    assert archive.full_reward(A.workflow_id) == 0.0
    failed = Evaluation(A.workflow_id, RowSet("validation", (0,)), (0.0,), "NameError")
    archive.add_evaluation(failed)
    assert archive.entries[A.workflow_id].failure == "NameError"
    assert archive.full_reward(A.workflow_id) == 0.0


def test_a_workflow_fails_only_as_long_as_every_row_it_met_says_so() -> None:
    archive = Archive(3)
    archive.add_candidate(candidate(A, 0.0, rows=(1,), failure="NameError"))
    archive.add_evaluation(Evaluation(A.workflow_id, RowSet("validation", (0, 2)), (1.0, 1.0)))

    assert archive.entries[A.workflow_id].failure is None
    assert archive.full_reward(A.workflow_id) == approx(2 / 3)
    failed = Evaluation(A.workflow_id, RowSet("validation", (1,)), (0.0,), "NameError")
    archive.add_evaluation(failed)
    assert archive.entries[A.workflow_id].failure is None


def test_a_clean_prior_draw_supersedes_a_refinement_and_not_the_other_way() -> None:
    archive = Archive(2)
    refined = candidate(A, 1.0, rows=(0,), clean=False, origin="refined")
    drawn = candidate(A, 0.0, rows=(1,), number=2)
    archive.add_candidate(refined)
    assert not archive.entries[A.workflow_id].clean

    archive.add_candidate(drawn)
    assert archive.entries[A.workflow_id].scores == {0: 1.0, 1: 0.0}
    archive.add_candidate(refined)
    entry = archive.entries[A.workflow_id]
    assert entry.clean
    assert entry.origin == "prior"
    assert entry.scores == {0: 1.0, 1: 0.0}


def test_a_failure_is_not_forgotten_when_a_clean_draw_supersedes_a_refinement() -> None:
    archive = Archive(3)
    refined = candidate(A, 0.0, rows=(0,), clean=False, origin="refined", failure="NameError")
    archive.add_candidate(refined)
    archive.add_candidate(candidate(A, 0.0, rows=(1,), failure="NameError", number=2))

    assert archive.entries[A.workflow_id].failure == "NameError"
    assert archive.full_reward(A.workflow_id) == 0.0


def test_refinements_are_entries_but_never_draws() -> None:
    refined = candidate(C, 1.0, 1.0, clean=False, origin="refined")
    archive = archive_of(
        generation(1, particle(0.0, candidate(A, 1.0, 0.0)), refinements=(refined,))
    )

    assert list(archive.entries) == [A.workflow_id, C.workflow_id]
    assert {draw.workflow_id for draw in archive.draws} == {A.workflow_id}


def test_stored_draws_are_weighed_as_the_archive_weighs_them() -> None:
    archive = archive_of(FIRST, SECOND)
    rewards = {A.workflow_id: 0.5, B.workflow_id: 1.0, C.workflow_id: 0.0}

    assert weigh(archive.draws, rewards, 2.0) == archive.posterior(2.0)
    assert weigh([], {}, 2.0) is None


def test_a_round_that_only_its_rewards_had_scored_in_full_is_kept_and_not_pooled() -> None:
    tied = replace(SECOND, counts=False)
    archive = archive_of(FIRST, tied)

    assert archive.posterior(2.0) == archive_of(FIRST).posterior(2.0)
    assert C.workflow_id in archive.entries
    unclean = particle(0.0, candidate(C, 1.0, 1.0, clean=False), clean=False)
    extinct = replace(generation(2, unclean), counts=False)
    assert archive_of(FIRST, extinct).posterior(2.0) == archive_of(FIRST).posterior(2.0)


# --- rewards of -inf --------------------------------------------------------------------------


def test_draws_of_weight_zero_still_count_among_the_n() -> None:
    nothing = particle(0.0, candidate(B, -math.inf, -math.inf))
    posterior = archive_of(generation(1, particle(0.0, candidate(A, 1.0, 1.0)), nothing)).posterior(
        2.0
    )
    assert posterior is not None

    assert posterior.probability == {A.workflow_id: 1.0, B.workflow_id: 0.0}
    assert posterior.log_evidence == approx(2.0 - math.log(2))
    assert posterior.effective_sample_size == approx(1.0)


def test_draws_that_all_have_a_weight_of_zero_make_no_posterior() -> None:
    nothing = particle(0.0, candidate(B, -math.inf, -math.inf))

    assert archive_of(generation(1, nothing, nothing)).posterior(2.0) is None


# --- islands ----------------------------------------------------------------------------------


def test_the_evidence_of_islands_averages_to_the_whole_and_their_spread_is_its_error() -> None:
    """By hand: three islands of one particle, R = 1, ½, 0 and β = 2; two rounds alike."""
    rewards = ((A, 1.0), (B, 0.5), (C, 0.0))
    rounds = [
        generation(
            number,
            *(
                particle(0.1, candidate(workflow, reward, reward), island=island)
                for island, (workflow, reward) in enumerate(rewards)
            ),
        )
        for number in (1, 2)
    ]
    apart = [math.exp(0.1 + 2.0 * reward) for _, reward in rewards]
    mean = sum(apart) / 3
    error = math.sqrt(sum((each - mean) ** 2 for each in apart) / 2 / 3)

    for pool_rounds in (True, False):
        posterior = archive_of(*rounds, pool_rounds=pool_rounds, islands=3).posterior(2.0)
        assert posterior is not None
        assert [math.exp(each) for each in posterior.island_evidence] == approx(apart)
        assert math.exp(posterior.log_evidence) == approx(mean)
        assert posterior.relative_error == approx(error / mean)


def test_one_island_has_no_standard_error_to_report() -> None:
    posterior = archive_of(FIRST, SECOND).posterior(2.0)
    assert posterior is not None

    assert posterior.relative_error is None
    assert posterior.island_evidence == approx((posterior.log_evidence,))


def test_an_island_without_a_clean_lineage_counts_as_zero_in_the_error_too() -> None:
    """Shares of the mean are 2 and 0: their standard deviation is √2, over √2 islands 1."""
    unclean = particle(0.0, candidate(C, 1.0, 1.0, clean=False), clean=False, island=1)
    one = generation(1, particle(0.0, candidate(A, 1.0, 1.0)), unclean)
    posterior = archive_of(one, islands=2).posterior(2.0)
    assert posterior is not None

    assert posterior.island_evidence == approx((2.0, -math.inf))
    assert posterior.log_evidence == approx(2.0 - math.log(2))
    assert posterior.relative_error == approx(1.0)

import math
from collections import Counter

import pytest

from bayesflow_sampler.errors import GrammarError
from bayesflow_sampler.grammar import Grammar, GrammarPrior, Production
from bayesflow_sampler.ports import Prior
from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import DrawKey, Step, Workflow
from fakes.approx import approx
from fakes.toys import letter, make_toy, word_of

TOY = make_toy("ab", 3, seed=2, stop=True)


def test_the_probabilities_of_all_workflows_sum_to_one() -> None:
    for toy in (TOY, make_toy("abc", 4, seed=1), make_toy("a", 1, seed=0)):
        assert math.fsum(probability for _, probability in toy.grammar.enumerate()) == approx(
            1.0, abs=1e-12
        )


def test_every_workflow_is_enumerated_once() -> None:
    words = [word_of(workflow) for workflow, _ in TOY.grammar.enumerate()]

    assert len(words) == len(set(words)) == 8 + 1 + 2  # full words, stopped after 1, after 2


def test_the_log_probability_agrees_with_the_enumeration() -> None:
    for workflow, probability in TOY.grammar.enumerate():
        assert TOY.grammar.log_probability(workflow) == approx(math.log(probability))


def test_a_prefix_has_the_mass_of_its_completions() -> None:
    for workflow, _ in TOY.grammar.enumerate():
        for length in range(len(workflow) + 1):
            prefix = workflow.prefix(length)
            mass = math.fsum(
                p for other, p in TOY.grammar.enumerate() if other.steps[:length] == prefix.steps
            )
            assert math.exp(TOY.grammar.log_probability(prefix)) == approx(mass)


def test_what_the_grammar_does_not_write_has_no_probability() -> None:
    whole = next(workflow for workflow, _ in TOY.grammar.enumerate())
    longer = Workflow(whole.preamble, (*whole.steps, letter("a", len(whole))))

    assert TOY.grammar.log_probability(Workflow("", (letter("z", 0),))) == -math.inf
    assert TOY.grammar.log_probability(longer) == -math.inf


def test_draws_follow_the_exact_law() -> None:
    """Chi-square over 11 workflows, 4,000 draws: 29.6 is the 0.1 % point at 10 degrees."""
    counts = Counter(
        TOY.grammar.complete((), 5, "draw", index).workflow_id for index in range(4000)
    )
    expected = {leaf.workflow.workflow_id: 4000 * leaf.probability for leaf in TOY.leaves}
    assert min(expected.values()) > 5

    assert _chi_square(counts, expected) < 29.6
    shifted = dict(zip(expected, [*list(expected.values())[1:], 1.0], strict=True))
    assert _chi_square(counts, shifted) > 1000  # the negative control: another law


def _chi_square(counts: Counter[str], expected: dict[str, float]) -> float:
    return sum((counts[name] - mean) ** 2 / mean for name, mean in expected.items())


def test_a_quantile_finds_its_production() -> None:
    choices = TOY.grammar.productions["^"]
    cumulative = 0.0
    for choice in choices:
        assert TOY.grammar.choose("^", cumulative) == choice
        cumulative += choice.probability
        assert TOY.grammar.choose("^", cumulative - 1e-9) == choice
    assert TOY.grammar.choose("^", math.nextafter(1.0, 0.0)) == choices[-1]


def test_the_state_after_a_prefix_is_found_from_its_steps_alone() -> None:
    assert TOY.grammar.state_after(()) == "^"
    assert TOY.grammar.state_after((letter("b", 0), letter("a", 1))) == "^ba"
    assert TOY.grammar.state_after((letter("a.", 0),)) is None


def test_the_state_after_foreign_steps_is_refused() -> None:
    with pytest.raises(GrammarError, match="does not write the step 'Write z'"):
        TOY.grammar.state_after((letter("z", 0),))
    with pytest.raises(GrammarError, match="does not write"):
        TOY.grammar.state_after((letter("a.", 0), letter("a", 1)))


def test_a_state_that_writes_a_step_twice_is_refused() -> None:
    twice = (Production(letter("a", 0), 0.5, None), Production(letter("a", 0), 0.5, None))

    with pytest.raises(GrammarError, match="'Write a' twice"):
        Grammar("", "s", {"s": twice})


async def test_draws_keep_their_prefix_and_depend_on_the_seed_and_key_alone() -> None:
    prior: Prior = GrammarPrior(TOY.grammar, 3)
    prefix = Workflow(prior.root.preamble, (letter("a", 0),))
    draws = [await prior.extend(prefix, DrawKey("extend", 2, index)) for index in range(20)]
    again = [await prior.extend(prefix, DrawKey("extend", 2, index)) for index in range(20)]
    other = [await prior.complete(prefix, DrawKey("complete", 2, i, 1)) for i in range(20)]

    assert all(draw.prefix(1) == prefix for draw in draws)
    assert draws == again
    assert draws != other
    assert prior.coherent
    assert len(prior.root) == 0


def test_a_drawn_workflow_is_a_program_that_parses_into_the_same_steps() -> None:
    step = Step("Answer", "        return problem, 0\n")
    grammar = Grammar("", "s", {"s": (Production(step, 1.0, None),)})
    (workflow,) = [workflow for workflow, _ in grammar.enumerate()]

    assert parse_workflow(workflow.source) == workflow

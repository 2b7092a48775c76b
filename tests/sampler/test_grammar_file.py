import ast
import math

import pytest

from bayesflow_sampler.errors import GrammarError
from bayesflow_sampler.grammar_file import load_grammar
from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import Step
from fakes.approx import approx

GOOD = '''
title = "Toy"
start = "ask"

[helpers]
trim = """
def trim(text):
    return text.strip(<<marks>>)
"""

[[production]]
state = "ask"
title = "Ask with <<k>> examples"
weight = 3
each = { k = [2, 4] }
uses = ["trim"]
next = "read"
code = """
shots = SHOTS[:<<k>>]
text = f\\"\\"\\"
  {problem}
\\"\\"\\"
"""

[[production]]
state = "ask"
title = "Guess"
code = "return 'yes', 0"

[[production]]
state = "read"
title = "Read"
code = "return trim(text), 0"
'''
ONE = '[[production]]\nstate = "s"\ntitle = "t"\ncode = "return 1, 0"\n'


def test_weights_are_shares_of_their_state_and_each_splits_its_weight() -> None:
    grammar = load_grammar(GOOD, {"marks": ".,"})
    shares = {p.step.title: p.probability for p in grammar.productions["ask"]}

    assert shares == approx(
        {"Ask with 2 examples": 0.375, "Ask with 4 examples": 0.375, "Guess": 0.25}
    )
    assert math.fsum(p for _, p in grammar.enumerate()) == approx(1.0)
    assert grammar.title == "Toy"


def test_slots_are_written_as_python_literals_and_helpers_come_along() -> None:
    grammar = load_grammar(GOOD, {"marks": "'\"\n"})
    workflow = next(w for w, _ in grammar.enumerate() if len(w) == 2)

    assert "text.strip('\\'\"\\n')" in workflow.source
    assert ast.parse(workflow.source)
    assert len(parse_workflow(workflow.source)) == 2


def test_code_is_indented_without_touching_its_strings() -> None:
    step = load_grammar(GOOD, {"marks": ""}).productions["ask"][0].step

    assert step == Step(
        "Ask with 2 examples",
        '        shots = SHOTS[:2]\n        text = f"""\n  {problem}\n"""\n',
        "def trim(text):\n    return text.strip('')\n",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start = ", "not valid TOML"),
        ('start = "s"\n', r"no \[\[production\]\]"),
        (ONE, "needs the text `start`"),
        ("start = 3\n" + ONE, "needs the text `start`"),
        ('start = "s"\ncolour = 1\n' + ONE, "unknown key 'colour'"),
        ('start = "x"\n' + ONE, "No production has the state 'x'"),
        ('start = "s"\n' + ONE + 'next = "gone"\n', "No production has the state 'gone'"),
        ('start = "s"\n' + ONE + 'next = "s"\n', "'s' leads back to itself"),
        ('start = "s"\n' + ONE + ONE.replace('"s"', '"t"'), "Nothing leads to the state 't'"),
        ('start = "s"\n' + ONE + ONE, "writes the step 't' twice"),
        (
            'start = "s"\n' + ONE + "weight = 0\n",
            "Production 1 .* `weight` must be a number above 0",
        ),
        ('start = "s"\n' + ONE + "weight = nan\n", "`weight` must be a number"),
        ('start = "s"\n' + ONE + "weight = inf\n", "`weight` must be a number"),
        ('start = "s"\n' + ONE + 'weight = "2"\n', "`weight` must be a number"),
        ('start = "s"\n' + ONE + "size = 1\n", "Production 1 has the unknown key 'size'"),
        ('start = "s"\n' + ONE + "each = 3\n", "`each` must map names to lists"),
        ('start = "s"\n' + ONE + "each = { k = [] }\n", "`each` must map names to lists"),
        ('start = "s"\n' + ONE + "each = { k = 3 }\n", "`each` must map names to lists"),
        ('start = "s"\n' + ONE + 'uses = "trim"\n', "`uses` must be a list"),
        ('start = "s"\n' + ONE + 'uses = ["trim"]\n', "helper 'trim', which is not defined"),
        (
            'start = "s"\n' + ONE.replace("return 1, 0", "return <<x>>, 0"),
            "uses <<x>>, which nothing",
        ),
        ('start = "s"\n' + ONE.replace("return 1, 0", "x = (1"), "`code` is not Python"),
        ('start = "s"\n' + ONE.replace("return 1, 0", "return return"), "`code` is not Python"),
        ('start = "s"\n' + ONE.replace("return 1, 0", "x = 1"), "returns nothing; add a `return`"),
        ('start = "s"\n' + ONE.replace("return 1, 0", "# nothing"), "`code` is not Python"),
        ('start = "s"\n' + ONE.replace("return 1, 0", " "), "needs the text `code`"),
        ('start = "s"\n' + ONE.replace('"t"', '"a\\nb"'), "`title` must be one line"),
        ('start = "s"\n' + ONE.replace('"t"', '"a\\u2028b"'), "`title` must be one line"),
        ('start = "s"\nhelpers = "x"\n' + ONE, "`helpers` must be a table"),
        ('start = "s"\n[helpers]\nx = 3\n' + ONE, "needs the text `x`"),
        ('start = "s"\n[helpers]\nx = "def"\n' + ONE, "helper 'x' is not valid Python"),
        ('start = "s"\nproduction = "x"\n', "must be a table"),
        ('start = "s"\nproduction = [1]\n', "must be a table"),
        ('start = "s"\n' + ONE.replace("[[production]]", "[production]"), "must be a table"),
    ],
)
def test_a_bad_grammar_gets_one_clear_sentence(text: str, message: str) -> None:
    with pytest.raises(GrammarError, match=message) as caught:
        load_grammar(text)

    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_step_that_goes_on_needs_no_return() -> None:
    text = 'start = "a"\n[[production]]\nstate = "a"\ntitle = "t"\nnext = "s"\ncode = "x = 1"\n'

    assert len(list(load_grammar(text + ONE).enumerate())) == 1

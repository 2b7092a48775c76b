"""The answers that `test_answer` reads are themselves in order."""

import ast
import textwrap
from collections import Counter

import pytest

from fakes.answer_corpus import FOLDER, MARKS, SECTIONS, AnswerCase, load_cases

CASES = load_cases()
TROUBLES = {"refused", "overflow", "truncated", "no code", "syntax", "no workflow", "no step"}
ENDINGS = {"end", "truncated", "refused", "overflow"}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def test_there_are_enough_answers_and_each_is_peculiar_in_its_own_way() -> None:
    assert len(CASES) >= 60
    assert len({case.title for case in CASES}) == len(CASES)
    assert len({(case.prefix, case.reply) for case in CASES}) == len(CASES)


def test_every_trouble_has_an_answer() -> None:
    assert {trouble for case in CASES for trouble in case.troubles} == TROUBLES


def test_most_answers_can_be_read() -> None:
    assert sum(not case.troubles for case in CASES) >= 60


def test_files_hold_no_character_that_an_editor_would_hide() -> None:
    for path in FOLDER.rglob("*.txt"):
        text = path.read_bytes().decode()

        assert not [mark for mark, hidden in MARKS.items() if mark != "␠" and hidden in text], path
        assert not [line for line in text.split("\n") if line.endswith(" ")], path


@every_case
def test_sections_are_known_and_stand_once(case: AnswerCase) -> None:
    assert max(Counter(case.sections).values()) == 1
    assert {name.split()[0] for name in case.sections} <= SECTIONS
    assert case.title
    assert case.reply.ending in ENDINGS


@every_case
def test_a_case_expects_either_a_workflow_or_a_trouble(case: AnswerCase) -> None:
    assert bool(case.troubles) != bool(case.titles)
    assert set(case.troubles) <= TROUBLES
    if case.troubles:
        assert not case.bodies
        assert not case.modules


@every_case
def test_every_new_step_is_given_and_the_prefix_keeps_its_titles(case: AnswerCase) -> None:
    if case.troubles:
        return
    written = len(case.prefix)

    assert case.titles[:written] == tuple(step.title for step in case.prefix.steps)
    assert set(range(written + 1, len(case.titles) + 1)) <= set(case.bodies)
    assert set(case.bodies) | set(case.modules) <= set(range(1, len(case.titles) + 1))


@every_case
def test_the_expected_code_is_python_at_the_margin_of_the_method(case: AnswerCase) -> None:
    for body in case.bodies.values():
        ast.parse(f"async def call():\n    if True:\n        pass\n{body}")
    for module in case.modules.values():
        assert module == textwrap.dedent(module)
        ast.parse(module)

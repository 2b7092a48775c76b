"""Tries a scorer on answers whose worth is known, before anything is spent on others.

An expected answer must score 1; wrong ones should not: the expected answer of another row, no text,
"I do not know.". A judge can be tried too, but costs; nobody is asked unless the caller passes one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, NamedTuple, TypeVar

from bayesflow_server.errors import InputError, ScorerError
from bayesflow_server.evaluation.example import Row, Target
from bayesflow_server.evaluation.grading import Grader
from bayesflow_server.evaluation.scorers import (
    File,
    Math,
    PassAt1,
    Python,
    Scorer,
    answer_text,
)
from bayesflow_server.evaluation.voting import vote_key
from bayesflow_server.excerpt import quoted

__all__ = ["GoldReport", "Tried", "expected_answer", "require_gold", "try_gold"]

_Done = TypeVar("_Done")

_AT_ONCE: Final = 4
_SHOWN: Final = 5
_EXCERPT: Final = 80
_WRONG: Final = ("", "I do not know.")
_ACCEPTED: Final = 0.5
_ROUNDING: Final = 1e-9
# Less than hosts wait for a tool.
_LONGEST_SECONDS: Final = 45.0
# Computed scorers are held against every row as the task is read; a judge costs.
_TRIED_FIRST: Final = (Python, File, Math, PassAt1)


class Tried(NamedTuple):
    """One answer of known worth.

    Attributes:
        row_id: Whose question it was given to.
        answer: The answer, cut short.
        score: What the scorer gave it.
        problem: Why it could not be graded, as far as the scorer says; None: it could.
    """

    row_id: str
    answer: str
    score: float
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class GoldReport:
    """What a scorer made of answers of known worth.

    Attributes:
        rows: Rows whose expected answer was scored.
        skipped: Rows without an expected answer.
        gold_mean: Mean score of the expected answers; None if no row has one.
        failed: How many expected answers scored less than 1.
        failures: The first five of them.
        wrong_answers: How many wrong answers were scored.
        wrong_mean: Their mean score; None if there are none.
        accepted: The first five wrong answers that scored 0.5 or more.
    """

    rows: int
    skipped: int
    gold_mean: float | None
    failed: int
    failures: tuple[Tried, ...]
    wrong_answers: int
    wrong_mean: float | None
    accepted: tuple[Tried, ...]


async def try_gold(scorer: Scorer, rows: Sequence[Row], grader: Grader, *, most: int) -> GoldReport:
    """Scores expected and wrong answers of the first `most` rows.

    Args:
        scorer: Says which answers are the same.
        rows: In the order in which they are taken.
        grader: Of that scorer.
        most: At least 1; rows without an expected answer count as well.

    Raises:
        ScorerError: The scorer, or what it needs, does not work.
        BudgetSpentError: A judge's budget has no room for a call.
        ProviderError: A judge's provider kept failing.
    """
    taken = rows[:most]
    asked = _with_expected(taken)
    gold = await _all_tried(asked, grader)
    wrong = await _all_tried(_wrong(scorer, asked), grader)
    failures = [tried for tried in gold if _fails(tried)]
    accepted = [tried for tried in wrong if tried.score >= _ACCEPTED]
    return GoldReport(
        rows=len(gold),
        skipped=len(taken) - len(asked),
        gold_mean=fmean(tried.score for tried in gold) if gold else None,
        failed=len(failures),
        failures=tuple(failures[:_SHOWN]),
        wrong_answers=len(wrong),
        wrong_mean=fmean(tried.score for tried in wrong) if wrong else None,
        accepted=tuple(accepted[:_SHOWN]),
    )


async def require_gold(
    scorer: Scorer,
    rows: Sequence[Row],
    grader: Grader,
    *,
    most: int = 20,
    seconds: float = _LONGEST_SECONDS,
) -> None:
    """Makes sure that the expected answers of the first rows score 1, where that can be tried.

    Args:
        scorer: Only some kinds are tried.
        rows: In the order in which they are taken.
        grader: Of that scorer.
        most: How many rows.
        seconds: The longest that all of them may take.

    Raises:
        InputError: One does not, or the scorer does not work at all.
    """
    if not isinstance(scorer, _TRIED_FIRST):
        return
    try:
        async with asyncio.timeout(seconds):
            gold = await _all_tried(_with_expected(rows[:most]), grader)
    except TimeoutError:
        raise InputError(
            f"The scorer '{scorer.kind}' took longer than {seconds:g} s for the expected answers "
            f"of {min(most, len(rows))} rows: make it quicker."
        ) from None
    except ScorerError as error:
        raise InputError(str(error)) from error
    for tried in gold:
        if _fails(tried):
            because = f" ({tried.problem})" if tried.problem else ""
            raise InputError(
                f"The scorer '{scorer.kind}' gives the expected answer {quoted(tried.answer, 100)} "
                "of "
                "the row "
                f"{quoted(tried.row_id)} the score {tried.score:g}{because}: {_advice(scorer)}."
            )


def expected_answer(target: Target) -> str | None:
    """An expected answer as a workflow would give it: the first of equally good ones.

    Objects and lists are JSON; text stays as it is, for the indentation of code matters.
    """
    return next(_accepted(target), None)


class _Question(NamedTuple):
    row: Row
    answer: str


def _with_expected(rows: Iterable[Row]) -> list[_Question]:
    found = ((row, expected_answer(row.target)) for row in rows)
    return [_Question(row, answer) for row, answer in found if answer is not None]


def _wrong(scorer: Scorer, gold: Sequence[_Question]) -> list[_Question]:
    return [
        _Question(question.row, answer)
        for place, question in enumerate(gold)
        for answer in _wrong_for(scorer, gold, place)
    ]


def _wrong_for(scorer: Scorer, gold: Sequence[_Question], place: int) -> list[str]:
    """Wrong answers for one row, none twice; those that may be right after all are left out."""
    right = {vote_key(scorer, answer) for answer in _accepted(gold[place].row.target)}
    others = (other.answer for other in (*gold[place + 1 :], *gold[:place]))
    another = next((text for text in others if vote_key(scorer, text) not in right), "")
    return [
        text for text in dict.fromkeys((another, *_WRONG)) if vote_key(scorer, text) not in right
    ]


def _accepted(target: Target) -> Iterator[str]:
    for item in target if isinstance(target, list) else [target]:
        if item is not None:
            yield item if isinstance(item, str) else answer_text(item)


async def _all_tried(questions: Sequence[_Question], grader: Grader) -> list[Tried]:
    return await _few_at_once(questions, lambda question: _tried(question, grader))


async def _tried(question: _Question, grader: Grader) -> Tried:
    grade = await grader.grade(question.row, question.answer)
    # Nothing was awaited since the grader returned, so its last problem is this answer's.
    told: object = getattr(grader, "last_problem", None)
    problem = None if grade.graded else str(told or "it could not be graded")
    excerpt = " ".join(question.answer.split())
    cut = f"{excerpt[:_EXCERPT]}…" if len(excerpt) > _EXCERPT else excerpt
    return Tried(question.row.id, cut, grade.score, problem)


async def _few_at_once(
    items: Sequence[_Question], work: Callable[[_Question], Awaitable[_Done]]
) -> list[_Done]:
    """The results in order; the first exception is raised as it is, and ends the others."""
    results: dict[int, _Done] = {}
    waiting = iter(enumerate(items))

    async def take() -> None:
        for place, item in waiting:
            results[place] = await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(items))):
                group.create_task(take())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [results[place] for place in range(len(items))]


def _fails(tried: Tried) -> bool:
    return tried.score < 1 - _ROUNDING


def _advice(scorer: Scorer) -> str:
    if isinstance(scorer, Python | File):
        return "correct the scorer, or the row"
    return "correct the row, or use another scorer"

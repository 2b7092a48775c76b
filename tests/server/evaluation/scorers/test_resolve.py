from collections.abc import Sequence

import pytest

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import Row, Target
from bayesflow_server.evaluation.scorers import Label, check_expected_answers, resolve_scorer


def rows_of(targets: Sequence[Target]) -> list[Row]:
    return [Row(id=str(n), problem=str(n), target=target) for n, target in enumerate(targets)]


@pytest.mark.parametrize(
    ("targets", "kind"),
    [
        (["36", "1,234", "$5.50", "-3"], "numeric"),
        ([1, 2.5, 0], "numeric"),
        (["He has 3.\n#### 3", "It is 1,000 #### 1,000"], "numeric"),
        (["A", "(B)", "J."], "choice"),
        (["positive", "negative"] * 10, "label"),
        (["yes", "no"], "label"),
        ([True, False], "label"),
        (["A", "Z"] * 5, "label"),
        (["+", "-"] * 10, "exact"),
        (["Paris", "Rome", "Oslo"], "exact"),
        (["The shop opens at nine.", "Returns are free for thirty days."], "f1"),
        ([["Paris", "City of Paris"], ["Rome"]], "exact"),
        ([{"a": 1}, {"a": 2}], "exact"),
        (["same"] * 10, "exact"),
    ],
)
def test_the_scorer_is_guessed_from_the_expected_answers(targets: list[Target], kind: str) -> None:
    rows = rows_of(targets)
    resolved = resolve_scorer("auto", rows)
    assert resolved.scorer.kind == kind
    assert resolved.guess is not None
    assert f"'{kind}'" in resolved.guess
    check_expected_answers(resolved.scorer, rows)


def test_a_named_scorer_is_no_guess() -> None:
    assert resolve_scorer("numeric", rows_of(["1"])).guess is None


def test_labels_come_from_the_expected_answers() -> None:
    scorer = resolve_scorer("label", rows_of(["no", "yes", ["maybe", "no"]])).scorer
    assert isinstance(scorer, Label)
    assert scorer.labels == ("maybe", "no", "yes")


def test_given_labels_stay() -> None:
    spec = Label(labels=("yes", "no", "unknown"))
    assert resolve_scorer(spec, rows_of(["yes", "no"])).scorer == spec


def test_nothing_can_be_guessed_without_expected_answers() -> None:
    with pytest.raises(InputError, match="cannot be guessed"):
        resolve_scorer("auto", rows_of([None, None]))


def test_a_row_without_the_expected_answer_is_named() -> None:
    scorer = resolve_scorer("auto", rows_of(["1", None])).scorer
    with pytest.raises(InputError, match="row '1' has no expected answer"):
        check_expected_answers(scorer, rows_of(["1", None]))


@pytest.mark.parametrize(("scorer", "targets"), [("numeric", ["1", "two"]), ("choice", ["A", "K"])])
def test_an_expected_answer_the_scorer_cannot_read_is_refused(
    scorer: str, targets: list[Target]
) -> None:
    rows = rows_of(targets)
    with pytest.raises(InputError, match="cannot read the expected answer"):
        check_expected_answers(resolve_scorer(scorer, rows).scorer, rows)


def test_an_expected_answer_outside_the_given_labels_is_refused() -> None:
    rows = rows_of(["yes", "perhaps"])
    with pytest.raises(InputError, match="'perhaps'"):
        check_expected_answers(Label(labels=("yes", "no")), rows)


def test_a_regex_needs_no_expected_answers_or_all_of_them() -> None:
    scorer = resolve_scorer({"kind": "regex", "pattern": "ok"}, rows_of([None])).scorer
    check_expected_answers(scorer, rows_of([None, None]))
    with pytest.raises(InputError, match="no expected answer"):
        check_expected_answers(scorer, rows_of([None, "x"]))

"""Text of others, cut and made visible."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_server.excerpt import INVISIBLE, excerpt, quoted, visible
from bayesflow_server.interface.paging import page_of_text, texts_that_fit
from bayesflow_server.interface.result import json_text

HOSTILE = "a\x1b[31m\u202eb\U000e0041\u200b\r\n\tc\x7f\u2028"


def test_what_nobody_sees_is_written_out() -> None:
    assert visible("a\x1b[2J") == "a\\u001b[2J"
    assert visible("\U000e0041") == "\\U000e0041"
    assert excerpt(HOSTILE, 100) == ("a\\u001b[31m\\u202eb\\U000e0041\\u200b\n\tc\\u007f\\u2028")


@pytest.mark.parametrize("text", ["two\nlines\t", "é 漢字 नमस्ते", "👩\u200d👧", "\u200fعربى"])
def test_what_scripts_need_stays(text: str) -> None:
    assert excerpt(text, 100) == text


def test_an_excerpt_counts_what_is_missing_as_it_would_be_shown() -> None:
    assert excerpt("x" * 10, 10) == "x" * 10
    assert excerpt("x" * 1000, 10) == "x" * 10 + "… (+990 characters)"
    assert len(excerpt("\x1b" * 1000, 100)) < 130


def test_a_quotation_stays_on_its_line() -> None:
    assert quoted("a\n\nb") == "'a b'"
    assert quoted("x" * 70) == f"'{'x' * 60}… (+10 characters)'"
    assert quoted(7) == "'7'"


@given(st.text())
def test_json_text_hides_nothing_and_says_the_same(text: str) -> None:
    written = json_text({"text": text})
    assert not INVISIBLE.search(written)
    assert json.loads(written) == {"text": text}


@given(st.text(alphabet='ab"\\\n\x1b\U000e0041é', max_size=400), st.integers(20, 100))
def test_the_pages_of_a_text_are_the_text(text: str, room: int) -> None:
    pages: list[str] = []
    start = 0
    while True:
        page = page_of_text(text, start, room)
        assert len(json_text(page.text)) <= room
        pages.append(page.text)
        if page.cursor is None:
            break
        assert page.text
        start = int(page.cursor)
    assert "".join(pages) == text


def test_texts_that_do_not_fit_are_counted() -> None:
    assert texts_that_fit(["a", "b"], 10, 100) == ["a", "b"]
    assert texts_that_fit(["x" * 50] * 5, 20, 100) == [
        f"{'x' * 20}… (+30 characters)",
        f"{'x' * 20}… (+30 characters)",
        "(+3 more)",
    ]
    assert texts_that_fit(["x" * 500], 400, 10) == [excerpt("x" * 500, 400)]

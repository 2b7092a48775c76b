# matplotlib annotates its functions in part only.
# pyright: reportUnknownMemberType=false

import sys
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import pytest

from bayesflow_server.errors import InputError
from bayesflow_server.plots.rewards import RoundRewards, draw_rewards
from bayesflow_server.plots.style import has_matplotlib, plain, require_matplotlib
from fakes.pictures import HOSTILE


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_becomes_one_short_line_of_glyphs_there_are(text: str) -> None:
    line = plain(text, 40)
    assert len(line) <= 40
    assert line.isprintable()
    assert plain(line, 40) == line


def test_what_is_cut_off_leaves_a_mark() -> None:
    assert plain("Ask once > Answer", 40) == "Ask once > Answer"
    assert plain("Ask once > Answer", 10) == "Ask once…"
    assert (plain("W" * 40, 40), plain("i" * 40, 40)) == ("W" * 23 + "…", "i" * 40)
    assert plain("a\nb\t c\x00d", 40) == "a b c d"
    assert plain(" " * 500 + "late", 40) == "…"
    assert plain("a 工 b", 40) == "a □ b"
    assert plain("e\u0301" + "\u0301" * 500, 40) == "é…"
    assert plain("$x_1$ \\frac", 40) == "$x_1$ \\frac"


def test_a_users_own_matplotlib_settings_change_nothing() -> None:
    drawn = [RoundRewards(1, 0.1, 0.2, 0.3, 4), RoundRewards(2, 0.2, 0.3, 0.4, 4)]
    before = draw_rewards(drawn, [], "plain")
    with mpl.rc_context({"font.size": 30.0, "text.usetex": True, "savefig.bbox": "tight"}):
        assert draw_rewards(drawn, [], "plain") == before
        assert mpl.rcParams["font.size"] == 30.0


def test_threads_that_draw_at_once_draw_the_same() -> None:
    drawn = [RoundRewards(1, 0.1, 0.2, 0.3, 4)]
    with ThreadPoolExecutor(4) as pool:
        pictures = set(pool.map(draw_rewards, [drawn] * 4, [()] * 4, ["again"] * 4))
    assert pictures == {draw_rewards(drawn, [], "again")}


def test_without_matplotlib_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert has_matplotlib()
    require_matplotlib()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not has_matplotlib()
    with pytest.raises(InputError, match=r"pip install 'bayesflow-mcp\[plot\]'"):
        require_matplotlib()

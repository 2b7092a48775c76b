import pytest

from bench.efficiency.sample_efficiency import sample_efficiency


def test_the_bench_has_a_row_for_each_contender_and_a_column_for_each_budget(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = sample_efficiency(3, budgets=(10, 50), informed=False)
    out = capsys.readouterr().out
    assert "Edits are blind." in out
    assert "| evaluations | 10 | 50 |" in out
    for name in ("balanced", "paper preset", "refinement alone", "prior draws, screened"):
        rows = [line for line in out.splitlines() if line.startswith(f"| {name} |")]
        assert len(rows) >= 7
        assert all(line.count(" | ") == 2 for line in rows)
    assert len(figures) == 8

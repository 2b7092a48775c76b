"""The shim against the standard library; inside the interpreter it is the same text."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sandbox import statistics_shim
from bayesflow_sandbox.allowed import MODULES
from bayesflow_sandbox.sandbox import Sandbox
from sandbox.workflows import EchoHost, workflow

SHIM = vars(statistics_shim)["_bayesflow_statistics"]
FUNCTIONS = sorted(MODULES["statistics"] - {"StatisticsError"})
NUMBERS = st.integers(-1000, 1000) | st.floats(-1000, 1000).map(lambda x: round(x, 3))


@pytest.mark.parametrize("name", FUNCTIONS)
@given(data=st.lists(NUMBERS, max_size=8))
def test_it_agrees_with_the_standard_library(name: str, data: list[float]) -> None:
    try:
        expected = getattr(statistics, name)(data)
    except statistics.StatisticsError:
        with pytest.raises(ValueError, match=r"."):
            getattr(SHIM, name)(data)
        return
    found = getattr(SHIM, name)(data)
    for one, other in zip(_listed(found), _listed(expected), strict=True):
        assert math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)


def _listed(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8), st.integers(1, 9))
def test_inclusive_quantiles_agree_too(data: list[int], n: int) -> None:
    expected = statistics.quantiles(data, n=n, method="inclusive")
    assert SHIM.quantiles(data, n=n, method="inclusive") == pytest.approx(expected)


def test_whole_means_stay_integers() -> None:
    assert type(SHIM.mean([1, 2, 3])) is int
    assert type(SHIM.mean([1, 2])) is float


async def test_every_function_runs_inside() -> None:
    calls = ", ".join(f"statistics.{name}([1, 2, 2.5, 4])" for name in FUNCTIONS)
    source = workflow(f"import statistics\nreturn [{calls}]")
    async with Sandbox(workers=1) as sandbox:
        outcome = await sandbox.run_workflow(source, ["six"], EchoHost())
    assert outcome.failure is None
    assert outcome.value == [getattr(SHIM, name)([1, 2, 2.5, 4]) for name in FUNCTIONS]


async def test_its_error_can_be_caught_by_name_inside() -> None:
    body = """
    import statistics
    try:
        statistics.mean([])
    except statistics.StatisticsError as error:
        return str(error)
    """
    async with Sandbox(workers=1) as sandbox:
        outcome = await sandbox.run_workflow(workflow(body), ["six"], EchoHost())
    assert outcome.value == "mean requires at least 1 data point"

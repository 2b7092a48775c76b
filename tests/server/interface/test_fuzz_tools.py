"""Every tool with arguments that fit its schema and with such that do not, on both wires.

BAYESFLOW_FUZZ_EXAMPLES=1000 looks for more, elsewhere than the last time.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.fuzzed_arguments import SCHEMAS, breaking, fitting
from fakes.fuzzed_server import WIRES, FuzzedServer, Wire
from fakes.mcp_sessions import FinishedRun, write_script

Drawer: TypeAlias = Callable[[str], st.SearchStrategy[dict[str, object]]]

FEW: Final = 20
MANY: Final = 150
_ASKED: Final = os.environ.get("BAYESFLOW_FUZZ_EXAMPLES")


@pytest.fixture(scope="module")
def server(
    finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FuzzedServer]:
    """One server for all: what one call leaves behind, the next one meets."""
    folder = tmp_path_factory.mktemp("fuzzed")
    for file in finished_run.database.parent.glob("runs.sqlite3*"):
        if file.is_file():
            shutil.copy(file, folder / file.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(write_script(folder / "script.json")))
        with FuzzedServer(folder, finished_run.run_id) as server:
            yield server


def fuzz(server: FuzzedServer, tool: str, drawer: Drawer, examples: int) -> None:
    @settings(
        max_examples=int(_ASKED) if _ASKED else examples,
        derandomize=_ASKED is None,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.sampled_from(WIRES), drawer(tool))
    def each(wire: Wire, arguments: dict[str, object]) -> None:
        server.check(wire, tool, arguments)

    each()


@pytest.mark.parametrize("tool", SCHEMAS)
@pytest.mark.parametrize("drawer", [fitting, breaking])
def test_a_tool_answers_anything_and_breaks_nothing(
    server: FuzzedServer, tool: str, drawer: Drawer
) -> None:
    fuzz(server, tool, drawer, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("tool", SCHEMAS)
@pytest.mark.parametrize("drawer", [fitting, breaking])
def test_a_tool_answers_more_of_anything(server: FuzzedServer, tool: str, drawer: Drawer) -> None:
    fuzz(server, tool, drawer, MANY)

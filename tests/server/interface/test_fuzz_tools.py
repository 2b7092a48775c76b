"""Every tool with arguments that fit its schema and with such that do not, on both wires.

BAYESFLOW_FUZZ_EXAMPLES=1000 looks for more, elsewhere than the last time.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bayesflow_server.interface.prompts import EXPLAIN, IMPROVE, OPTIMISE
from fakes.fuzzed_arguments import SCHEMAS, addresses, breaking, fitting, texts_by_name
from fakes.fuzzed_server import WIRES, FuzzedServer, Wire
from fakes.mcp_sessions import FinishedRun, write_script

Drawer: TypeAlias = Callable[[str], st.SearchStrategy[dict[str, object]]]

FEW: Final = 20
MANY: Final = 100
PROMPTS: Final = (OPTIMISE, EXPLAIN, IMPROVE, "no_prompt")
_ASKED: Final = os.environ.get("BAYESFLOW_FUZZ_EXAMPLES")


@contextmanager
def fuzzed(finished_run: FinishedRun, folder: Path) -> Generator[FuzzedServer]:
    for file in finished_run.database.parent.glob("runs.sqlite3*"):
        if file.is_file():
            shutil.copy(file, folder / file.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(write_script(folder / "script.json")))
        with FuzzedServer(folder, finished_run.run_id) as server:
            yield server


@pytest.fixture(scope="module")
def server(
    finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FuzzedServer]:
    """One server for all: what one call leaves behind, the next one meets."""
    with fuzzed(finished_run, tmp_path_factory.mktemp("fuzzed")) as server:
        yield server


def often(examples: int) -> settings:
    return settings(
        max_examples=int(_ASKED) if _ASKED else examples,
        derandomize=_ASKED is None,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def fuzz(server: FuzzedServer, tool: str, drawer: Drawer, examples: int) -> None:
    @often(examples)
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


def test_resources_of_any_address_are_given_or_refused(server: FuzzedServer) -> None:
    @often(3 * FEW)
    @given(st.sampled_from(WIRES), addresses())
    def each(wire: Wire, uri: str) -> None:
        server.check_resource(wire, uri)

    each()


def test_prompts_with_any_arguments_are_given_or_refused(server: FuzzedServer) -> None:
    @often(2 * FEW)
    @given(st.sampled_from(WIRES), st.sampled_from(PROMPTS), texts_by_name())
    def each(wire: Wire, name: str, arguments: dict[str, str]) -> None:
        server.check_prompt(wire, name, arguments)
        for argument, begun in arguments.items():
            server.check_completion(wire, name, argument, begun)

    each()


@pytest.mark.parametrize(
    "spoil",
    [
        "DELETE FROM dataset_rows WHERE scope IN (SELECT run_id FROM runs)",
        "DELETE FROM events WHERE position = 1",
        "UPDATE runs SET request = '{}'",
        "INSERT INTO draws VALUES ('run_of_nobody', 'key', 'value')",
    ],
)
def test_a_run_that_is_not_whole_would_be_seen(
    finished_run: FinishedRun, tmp_path: Path, spoil: str
) -> None:
    """The negative control of the tests above."""
    with fuzzed(finished_run, tmp_path) as server:
        with closing(sqlite3.connect(tmp_path / "runs.sqlite3")) as db, db:
            db.execute(spoil)
        with pytest.raises((AssertionError, ValidationError)):
            server.check("auto", "list_runs", {})

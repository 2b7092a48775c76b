"""The protocol's official conformance suite against our server, for both revisions.

The suite calls tools, resources and prompts of fixed names, which the fixture server registers
beside ours. What must pass is listed nowhere here: all that the suite runs for a revision does,
extensions included, but for `expected_failures.toml`.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from conformance.node_packages import NodePackages
from fakes.mcp_sessions import environment

pytestmark = pytest.mark.slow

HERE: Final = Path(__file__).parent
MOST_EXPECTED: Final = 3
# A suite that stops halfway, or finds our fixtures no more, must not pass for lack of failures.
LEAST_PASSED: Final = {"2026-07-28": 196, "2025-11-25": 84}
_PATIENCE: Final = 240.0
_BAD: Final = ("FAILURE", "WARNING")


class Check(NamedTuple):
    """One check of one scenario."""

    scenario: str
    name: str


class Verdicts(NamedTuple):
    """What the suite found, and how many checks passed."""

    passed: int
    bad: dict[Check, str]


@contextmanager
def serving(folder: Path) -> Generator[str]:
    """The fixture server's address while the block runs."""
    values = environment(None)
    values["PYTHONPATH"] += f":{HERE.parent}"
    log = folder / "server.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "fixture_server.py"), str(folder / "runs.sqlite3")],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=values,
            cwd=folder,
        )
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        assert port, log.read_text()
        yield f"http://localhost:{int(port)}/mcp"
    finally:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    assert "Traceback" not in log.read_text()


def verdicts(folder: Path) -> Verdicts:
    """Reads what the suite wrote down, one folder a scenario."""
    passed, bad = 0, dict[Check, str]()
    for file in sorted(folder.glob("*/checks.json")):
        scenario = file.parent.name.removeprefix("server-").rpartition("-20")[0]
        for check in json.loads(file.read_text(encoding="utf-8")):
            if check["status"] == "SUCCESS":
                passed += 1
            elif check["status"] in _BAD:
                bad[Check(scenario, check["id"])] = str(check.get("errorMessage"))
    return Verdicts(passed, bad)


def expected(revision: str) -> set[Check]:
    listed = tomllib.loads((HERE / "expected_failures.toml").read_text(encoding="utf-8"))
    entries: list[dict[str, str]] = listed.get("expected", [])
    assert len(entries) <= MOST_EXPECTED
    assert all(entry["reason"] for entry in entries)
    return {
        Check(entry["scenario"], entry["check"])
        for entry in entries
        if entry["revision"] == revision
    }


@pytest.mark.parametrize("revision", LEAST_PASSED)
def test_our_server_passes_the_conformance_suite(
    packages: NodePackages, tmp_path: Path, revision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path) as address:
        ended = packages.run(
            packages.conformance,
            ["server", "--url", address, "--requirements", revision, "-o", str(tmp_path / "out")],
            folder=tmp_path,
            patience=_PATIENCE,
        )
    found = verdicts(tmp_path / "out")
    with capsys.disabled():
        sys.stdout.write(f"\n{revision}: {found.passed} checks passed, {len(found.bad)} did not.\n")
    told = "\n".join(f"{check}: {message}" for check, message in found.bad.items())
    assert set(found.bad) == expected(revision), told or ended.stdout[-2000:]
    assert found.passed >= LEAST_PASSED[revision], ended.stdout[-2000:]

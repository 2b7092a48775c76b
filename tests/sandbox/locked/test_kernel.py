import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bayesflow_sandbox.errors import SandboxUnavailableError
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.locked import engine as engine_module
from bayesflow_sandbox.locked.engine import LockedEngine, lock_report
from bayesflow_sandbox.locked.kernel import KernelReport, missing, report
from sandbox.workflows import needs_lock

FULL = KernelReport("Linux", "x86_64", seccomp=True, landlock=4)
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("lack", "words"),
    [
        (replace(FULL, system="Darwin"), "needs Linux; this is Darwin"),
        (replace(FULL, system="Windows"), "needs Linux; this is Windows"),
        (replace(FULL, machine="riscv64"), "x86_64 and aarch64, not of riscv64"),
        (replace(FULL, seccomp=False), "CONFIG_SECCOMP_FILTER"),
        (replace(FULL, landlock=0), "lsm=landlock"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(lack: KernelReport, words: str) -> None:
    assert words in (lack.missing() or "")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_machine_with_seccomp_and_landlock_lacks_nothing(machine: str) -> None:
    assert replace(FULL, machine=machine, landlock=1).missing() is None


def test_a_report_reads_as_one_line() -> None:
    found = replace(FULL, namespaces=("user", "pid"))
    assert found.describe() == "seccomp on x86_64, Landlock ABI 4, namespaces: user, pid"
    assert "namespaces: none" in replace(FULL, namespaces=()).describe()
    assert replace(FULL, seccomp=False).describe() == replace(FULL, seccomp=False).missing()


def test_asking_this_machine_changes_nothing() -> None:
    found = report()
    assert found == report()
    assert found.system == platform.system()
    assert found.namespaces is None
    assert missing() == found.missing()


async def test_without_seccomp_or_landlock_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "missing", replace(FULL, landlock=0).missing)
    engine = LockedEngine(workers=1)
    with pytest.raises(SandboxUnavailableError, match="no Landlock"):
        async with engine.open("workflow", Limits()):
            pytest.fail("a process was started")
    await engine.aclose()


@needs_lock
async def test_the_report_names_the_namespaces_entered() -> None:
    found = await lock_report()
    assert found.landlock == report().landlock
    assert set(found.namespaces or ()) <= {"user", "net", "ipc", "uts", "pid"}


async def test_the_report_of_a_machine_without_locks_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lack = replace(FULL, landlock=0)
    monkeypatch.setattr(engine_module, "missing", lack.missing)
    monkeypatch.setattr(engine_module, "report", lambda: lack)
    assert "no Landlock" in (await lock_report()).describe()


def test_importing_the_engine_is_cheap_and_needs_no_linux() -> None:
    source = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'sandbox')!r})\n"
        "import bayesflow_sandbox.locked.engine\n"
        "for name in ('resource', 'pydantic_monty', 'unittest', 'statistics'):\n"
        "    assert name not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)

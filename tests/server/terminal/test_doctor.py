from dataclasses import replace
from pathlib import Path

import pytest

from bayesflow_sandbox.errors import SandboxUnavailableError
from bayesflow_sandbox.locked.kernel import KernelReport, missing
from bayesflow_server.models.endpoints import parse_endpoints
from bayesflow_server.settings import Settings
from bayesflow_server.terminal import doctor
from bayesflow_server.terminal.doctor import doctor_command


def test_the_doctor_tells_where_endpoints_are_and_how_they_may_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAYESFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("LAB_KEY", "sk-planted")
    endpoints = parse_endpoints(
        [
            "lab=http://localhost:8000/v1,key=LAB_KEY,rpm=60,price_in=1,price_out=2.5",
            "bare=http://localhost:9000,api=anthropic,tpm=1000,key=NOT_SET",
        ]
    )
    assert doctor_command(Settings(db=tmp_path / "runs.sqlite3"), endpoints) == 0
    said = capsys.readouterr().out.splitlines()
    assert (
        "ok  model lab:MODEL (at http://localhost:8000/v1, 64 at once, key in LAB_KEY, "
        "60 calls a minute, USD 1 in, 2.5 out per million)" in said
    )
    (bare,) = [line for line in said if "bare:MODEL" in line]
    assert bare.startswith("--  model bare:MODEL (at http://localhost:9000, 64 at once, ")
    assert bare.endswith("set NOT_SET in the server's environment.")
    assert "sk-planted" not in "".join(said)


def _said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The doctor's lines; a missing lock is no reason to fail."""
    assert doctor_command(Settings(db=tmp_path / "runs.sqlite3"), {}) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_the_doctor_tries_both_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(tmp_path, capsys)
    (kernel,) = [line for line in said if "  kernel: " in line]
    assert kernel.startswith("ok  kernel: Linux on ")
    assert ", seccomp, Landlock ABI " in kernel
    assert "namespaces: " in kernel
    (locked,) = [line for line in said if "  locked engine: " in line]
    assert locked.startswith("ok  locked engine: a workflow ran in ")
    assert ", a unit test in " in locked
    assert any(line.startswith("ok  sandbox: a workflow ran in ") for line in said)


def test_a_machine_that_cannot_lock_is_told_what_is_missing_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lack = KernelReport("Linux", "x86_64", seccomp=True, landlock=0)

    async def reported() -> KernelReport:
        return lack

    monkeypatch.setattr(doctor, "lock_report", reported)
    said = _said(tmp_path, capsys)
    assert "--  kernel: Linux on x86_64, seccomp, no Landlock, namespaces: not tried" in said
    (locked,) = [line for line in said if "  locked engine: " in line]
    assert locked.startswith("--  locked engine: none, so no unit tests; workflows run without it")
    assert "lsm=landlock" in locked


def test_a_lock_that_does_not_close_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = KernelReport("Linux", "x86_64", seccomp=True, landlock=4)

    async def refused() -> KernelReport:
        raise SandboxUnavailableError("landlock: Operation not permitted")

    monkeypatch.setattr(doctor, "lock_report", refused)
    monkeypatch.setattr(doctor, "report", lambda: replace(full, namespaces=()))
    said = _said(tmp_path, capsys)
    assert "ok  kernel: Linux on x86_64, seccomp, Landlock ABI 4, namespaces: none" in said
    (locked,) = [line for line in said if "  locked engine: " in line]
    assert locked.startswith("--  ")
    assert "landlock: Operation not permitted" in locked

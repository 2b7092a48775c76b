from pathlib import Path

import pytest

from bayesflow_server.models.endpoints import parse_endpoints
from bayesflow_server.settings import Settings
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

from pathlib import Path

import pytest

from bayesflow_server.errors import InputError
from bayesflow_server.settings import read_settings


def test_a_flag_goes_before_the_environment_and_that_before_the_platform() -> None:
    environment = {"BAYESFLOW_DB": "/of/the/environment", "BAYESFLOW_LOG": "debug"}
    flagged = read_settings("/of/a/flag", "error", environment)
    assert (flagged.db, flagged.log) == (Path("/of/a/flag"), "ERROR")
    assert read_settings(None, None, environment).db == Path("/of/the/environment")
    assert read_settings(None, None, environment).log == "DEBUG"
    default = read_settings(None, None, {})
    assert (default.db.name, default.log) == ("bayesflow.sqlite3", "WARNING")


def test_the_database_is_found_wherever_the_process_goes_later() -> None:
    assert read_settings("here.sqlite3", None, {}).db == Path.cwd() / "here.sqlite3"
    assert read_settings("~/here.sqlite3", None, {}).db == Path.home() / "here.sqlite3"


def test_an_unknown_log_level_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'log' cannot be 'LOUD'"):
        read_settings(None, "loud", {})

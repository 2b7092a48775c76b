"""Two servers, and a worker, on one file: who works on a run, who sees it, who goes on with it."""

import json
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bayesflow_server.models.scripted import read_counts
from fakes.mcp_sessions import (
    Arguments,
    Object,
    server_command,
    task_arguments,
    write_rows,
    write_script,
)
from fakes.processes import until_true
from fakes.server_process import ServerProcess


class Place:
    """A folder with rows, a slow model and a database.

    Attributes:
        db: The database file.
        calls: Where the model notes its calls.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db = folder / "runs.sqlite3"
        self.calls = folder / "calls"
        self.script = write_script(folder / "script.json", latency_ms=60, count_file=self.calls)
        self.rows = write_rows(folder / "rows.jsonl")

    def serve(self, *flags: str) -> ServerProcess:
        """A server over the file."""
        return ServerProcess(self.db, self.script, flags=flags)

    @contextmanager
    def worker(self, *flags: str) -> Generator[subprocess.Popen[bytes]]:
        """A worker over the file."""
        command = server_command(self.db, self.script)
        begin = [command.command, *command.args, "worker", *flags]
        with (self.folder / "worker.log").open("wb") as log:
            process = subprocess.Popen(begin, stdout=log, stderr=log, env=command.env)
        try:
            lock = self.db.with_name(self.db.name + ".owners") / "worker.lock"
            assert until_true(lambda: lock.exists() or process.poll() is not None)
            yield process
        finally:
            process.kill()
            process.wait()

    def start(self, server: ServerProcess, **changes: object) -> Arguments:
        """Starts a run; how it is named in further calls."""
        started = server.call("start_bayesflow_run", task_arguments(self.rows, **changes))
        return {"run_id": started["run_id"]}

    def at_work(self, server: ServerProcess, **changes: object) -> Arguments:
        """The same, once it has made some calls."""
        run = self.start(server, **changes)
        server.wait_for_calls(self.calls, least=5)
        return run


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def status(server: ServerProcess, run: Arguments) -> object:
    return server.call("get_run", run | {"wait_seconds": 0})["status"]


def finished(server: ServerProcess, run: Arguments) -> Object:
    """What a run found, once some process has finished it."""
    assert until_true(lambda: status(server, run) == "finished"), server.call("get_run", run)
    best = server.call("get_best_workflow", run)
    return {name: best[name] for name in ("workflow_id", "test", "validation_shrunk", "gain")}


def test_both_see_a_run_and_one_works_on_it(place: Place) -> None:
    with place.serve() as first, place.serve() as second:
        run = place.at_work(first)
        assert status(first, run) == status(second, run) == "running"
        assert second.call("resume_run", run)["status"] == "running"
        listed = [server.call("list_runs", {})["runs"] for server in (first, second)]
        assert [one["run_id"] for one in json.loads(json.dumps(listed[1]))] == [run["run_id"]]
        found = finished(second, run)
        assert found == finished(first, run)
    # One process alone asked the model: no question was put twice.
    assert set(read_counts(place.calls).started.values()) == {1}


def test_one_cancels_what_the_other_works_on_and_goes_on_with_it(place: Place) -> None:
    with place.serve() as first, place.serve() as second:
        run = place.at_work(first)
        assert second.call("cancel_run", run)["status"] == "cancelled"
        assert status(first, run) == "cancelled"
        assert second.call("resume_run", run)["status"] == "running"
        assert first.end(by=signal.SIGKILL) == -signal.SIGKILL
        assert status(second, run) == "running"
        finished(second, run)


@pytest.mark.slow  # until the next look
def test_what_a_killed_server_worked_on_is_taken_by_the_other_unasked(place: Place) -> None:
    with place.serve() as first, place.serve() as second:
        second.call("list_runs", {})
        run = place.at_work(first)
        assert first.end(by=signal.SIGKILL) == -signal.SIGKILL
        state = second.call("get_run", run | {"wait_seconds": 0})
        assert state["status"] == "interrupted"
        assert "this server goes on with it by itself" in str(state["reason"])
        assert str(state["next"]).startswith("get_run(")
        # A look with patience wakes when it goes on.
        assert second.call("get_run", run)["status"] == "running"
        finished(second, run)


@pytest.mark.parametrize("by", [None, signal.SIGKILL], ids=["closed", "killed"])
def test_a_server_that_starts_goes_on_with_what_was_left_though_nobody_asks_it_anything(
    place: Place, by: signal.Signals | None
) -> None:
    with place.serve() as first:
        run = place.at_work(first)
        first.end(by=by)
    before = place.calls.read_text().count("start ")
    with place.serve() as second:
        second.wait_for_calls(place.calls, least=before + 1)
        finished(second, run)


@pytest.mark.parametrize("flag", ["--no-auto-resume", "--read-only"])
def test_a_server_that_may_not_goes_on_with_nothing(place: Place, flag: str) -> None:
    with place.serve() as first:
        run = place.at_work(first)
        first.end(by=signal.SIGKILL)
    with place.serve(flag) as second:
        state = second.call("get_run", run | {"wait_seconds": 0})
        assert state["status"] == "interrupted"
        assert "resume_run" in str(state["reason"])
        with place.serve() as third:
            finished(third, run)
            assert status(second, run) == "finished"


def test_a_server_opens_no_database_unless_there_is_work_or_a_request(place: Place) -> None:
    with place.serve() as server:
        server.request("tools/list", {})
        assert server.end(by=None) == 0
    assert not place.db.exists()


def test_a_worker_takes_new_runs_so_that_the_host_may_close(place: Place) -> None:
    with place.worker() as worker:
        with place.serve() as first:
            run = place.start(first)
            assert until_true(lambda: status(first, run) == "running")
            assert first.end(by=None) == 0
        with place.serve() as second:
            finished(second, run)
            assert worker.poll() is None
            worker.terminate()
            assert worker.wait(20) in (0, 143)


@pytest.mark.slow  # until the next look
def test_what_a_killed_worker_worked_on_is_taken_by_a_server(place: Place) -> None:
    with place.serve() as server:
        with place.worker() as worker:
            run = place.at_work(server)
            worker.kill()
            worker.wait()
        finished(server, run)


def test_a_worker_asked_to_work_once_finishes_what_is_left_and_ends(place: Place) -> None:
    with place.serve() as server:
        run = place.at_work(server)
        server.end(by=signal.SIGKILL)
    with place.worker("--once") as worker:
        assert worker.wait(60) == 0
    with place.serve("--no-auto-resume") as server:
        assert status(server, run) == "finished"


def test_one_key_is_one_run_across_servers_and_restarts(place: Place) -> None:
    with place.serve() as first, place.serve() as second:
        run = place.at_work(first, idempotency_key="mine")
        assert place.start(second, idempotency_key="mine") == run
        first.end(by=signal.SIGKILL)
    with place.serve() as third:
        assert place.start(third, idempotency_key="mine") == run
        other = task_arguments(place.rows, idempotency_key="mine", seed=9)
        result = third.request("tools/call", {"name": "start_bayesflow_run", "arguments": other})
        assert result.get("isError")
        assert "another key" in json.dumps(result["content"])
        finished(third, run)
        assert place.start(third, idempotency_key="mine") == run

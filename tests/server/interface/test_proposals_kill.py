"""Servers that die under an agent at work: its answers count, and it is told what to call."""

import json
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fakes.mcp_sessions import Arguments, Object, task_arguments, write_rows, write_script
from fakes.server_process import ServerProcess

# Each answer is a workflow of its own, so that a draw that was lost or swapped shows.
ANSWER = """\
```python
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        # Step {first}: Ask in way {number}
        replies = await self.llm.call_llm(messages=[problem], temperature=0.0, stop="{number}")
        return replies[0], self.llm.get_usage_summary()["total_cost"]
```
"""


@dataclass
class Agent:
    """Answers questions and counts what became of its answers."""

    run: Arguments
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    results: list[object] = field(default_factory=list[object])

    def fetch(self, server: ServerProcess) -> list[Object]:
        given = server.call("next_proposals", self.run | {"limit": 8})
        self.status, self.next = given["status"], str(given["next"])
        proposals: list[Object] = json.loads(json.dumps(given["proposals"]))
        return proposals

    def fetch_all(self, server: ServerProcess, count: int) -> list[Object]:
        """So many questions; a call gives those that are open, which at first may be one."""
        proposals: list[Object] = []
        while len(proposals) < count:
            proposals += self.fetch(server)
        assert len(proposals) == count
        return proposals

    def submit(self, server: ServerProcess, proposals: list[Object]) -> Object:
        answers = [
            {"proposal_id": one["proposal_id"], "text": self._text(one)} for one in proposals
        ]
        taken = server.call("submit_proposals", self.run | {"answers": answers})
        self.results += [one["result"] for one in json.loads(json.dumps(taken["answers"]))]
        return taken

    def finish(self, server: ServerProcess) -> None:
        while True:
            proposals = self.fetch(server)
            if self.status not in ("queued", "running", "waiting_for_client"):
                return
            if proposals:
                self.submit(server, proposals)

    def _text(self, proposal: Object) -> str:
        number = self.numbers.setdefault(str(proposal["proposal_id"]), len(self.numbers))
        first = 2 if "from step 2 on" in str(proposal["prompt"]) else 1
        return ANSWER.format(first=first, number=number)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    write_script(tmp_path / "script.json")
    write_rows(tmp_path / "rows.jsonl")
    return tmp_path / "runs.sqlite3"


def serve(db: Path) -> ServerProcess:
    # The agent is told that its run was left, and asks for it to go on.
    return ServerProcess(db, db.with_name("script.json"), flags=["--no-auto-resume"])


def start(server: ServerProcess, db: Path) -> Agent:
    options = {"particles": 3, "rounds": 2, "refinements": 1, "beta": 5.0}
    changes = {"optimizer": "client", "preset": "client", "options": options}
    request = task_arguments(db.with_name("rows.jsonl"), **changes)
    return Agent({"run_id": server.call("start_bayesflow_run", request)["run_id"]})


def test_answers_count_at_once_though_the_server_that_asked_was_killed(db: Path) -> None:
    with serve(db) as server:
        agent = start(server, db)
        asked = agent.fetch_all(server, 3)
        assert server.end(by=signal.SIGKILL) == -signal.SIGKILL
    with serve(db) as server:
        taken = agent.submit(server, asked[:2])
        assert (taken["status"], taken["open_total"]) == ("interrupted", 1)
        assert agent.results == ["accepted", "accepted"]
        assert str(taken["next"]).startswith(f"resume_run(run_id='{agent.run['run_id']}')")
        assert (agent.fetch(server), agent.status) == ([], "interrupted")
        resumed = server.call("resume_run", agent.run)
        assert str(resumed["next"]).startswith("next_proposals(")
        left = agent.fetch(server)  # the third is given out anew, and nothing else is asked yet
        assert [one["proposal_id"] for one in left] == [asked[2]["proposal_id"]]
        agent.submit(server, left)
        agent.finish(server)
    assert agent.status == "finished"
    assert set(agent.results) == {"accepted"}


def test_another_server_takes_answers_and_goes_on_with_the_run_of_a_dead_one(db: Path) -> None:
    with serve(db) as first, serve(db) as second:
        agent = start(first, db)
        asked = agent.fetch_all(second, 3)
        assert agent.submit(second, asked[:1])["status"] in ("running", "waiting_for_client")
        assert first.end(by=signal.SIGKILL) == -signal.SIGKILL
        assert agent.submit(second, asked[1:])["status"] == "interrupted"
        second.call("resume_run", agent.run)
        agent.finish(second)
        assert agent.status == "finished"
        assert set(agent.results) == {"accepted"}
        # Who was too late hears so, and does no harm.
        again = agent.submit(second, asked)
        assert agent.results[-3:] == ["already_answered"] * 3
        assert str(again["next"]).startswith("get_best_workflow(")

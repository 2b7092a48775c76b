"""Runs whose server is killed at random moments, and what the model was asked meanwhile.

The scripted model notes the beginning and the end of each call in a file, with the call's sample,
which is a part of the completion's key. So of every call it is known whether its answer was on the
disk when a server was killed.
"""

import asyncio
import hashlib
import json
import os
import re
import select
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, cast

from bayesflow_server.app import Application
from bayesflow_server.gateway.cache_key import sample_number
from bayesflow_server.settings import Settings
from fakes.houses import Footprint, footprint
from fakes.mcp_sessions import Arguments, Object
from fakes.server_process import ServerProcess

__all__ = ["Kill", "Moment", "Ordeal", "Scene", "chaos_script"]

_ROWS: Final = 22
_PATIENCE: Final = 60.0
_LATENCY_MS: Final = 20.0
_CRITIQUE: Final = "The style suits these numbers badly. Change the style of the first step."
_WHOLE: Final = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)

"""
_CALL: Final = "await self.llm.call_llm(messages=[text], temperature="
_STEPS: Final = (
    tuple(f'text = "style{k} " + problem' for k in range(4)),
    (f"out = ({_CALL}0.0))[0]", f"both = {_CALL}0.8, num_of_response=2)\n        out = both[1]"),
    ("return out, 0.0", "return out[1:], 0.0"),
)


# --- the model ------------------------------------------------------------------------------


def _target(number: int) -> int:
    return number + number * 7 % 13


def _question(number: int) -> str:
    return f"What is {number} plus {number * 7 % 13}?"


def chaos_script(path: Path, calls: Path) -> Path:
    """A model that adds as the style of a workflow lets it, and that writes workflows."""
    written = [_written(1, seed) for seed in range(16)]
    rules: list[Arguments] = [
        {"contains": "Make one consequential edit", "answers": written},
        {"contains": "Write no code.", "answer": _CRITIQUE},
        {"contains": "from step 2 on", "answers": [_written(2, seed) for seed in range(4)]},
        {"contains": "from step 3 on", "answers": [_written(3, seed) for seed in range(2)]},
        {"contains": "Write a workflow for the task.", "answers": written},
    ]
    for number in range(_ROWS):
        right, wrong = str(_target(number)), str(_target(number) + 1)
        for style in range(4):
            sound = number % (style + 2) > 0
            answers = [right, right, wrong] if sound else [wrong, wrong, right]
            rules.append({"contains": f"style{style} {_question(number)}", "answers": answers})
        rules.append({"contains": _question(number), "answer": right if number % 2 else wrong})
    script = {"rules": rules, "latency_ms": _LATENCY_MS, "count_file": str(calls)}
    path.write_text(json.dumps(script))
    return path


def _written(first: int, seed: int) -> str:
    """A workflow from that step on, in a fence."""
    lines = [
        _WHOLE if first == 1 else "class Workflow:\n",
        "    async def __call__(self, problem):",
    ]
    for number in range(first, 4):
        choices = _STEPS[number - 1]
        lines += [
            f"        # Step {number}: Part {number}",
            f"        {choices[seed % len(choices)]}",
        ]
        seed //= len(choices)
    body = "\n".join(lines)
    return f"```python\n{body}\n```\n"


class _Log:
    """The calls so far, read as they are noted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.notes: list[tuple[str, str]] = []
        self.finished: set[str] = set()

    def read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            fresh = file.read()
        fresh = fresh[: fresh.rfind(b"\n") + 1]
        self._at += len(fresh)
        for line in fresh.decode().splitlines():
            event, key = line.split(" ", 1)
            self.notes.append((event, key))
            if event == "finish":
                self.finished.add(key)

    def begun(self, since: int = 0) -> list[str]:
        """The keys of the calls begun since that note, in order."""
        return [key for event, key in self.notes[since:] if event == "start"]


def _sample(key: str) -> int:
    return int(key.partition(".")[2])


# --- what happens ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """Runs of one file that go on side by side.

    Attributes:
        name: For people.
        changes: What differs in each run's request from the usual one.
        kills: How often their server is killed.
    """

    name: str
    changes: tuple[Arguments, ...]
    kills: int

    def requests(self) -> list[Arguments]:
        """The arguments of each run."""
        return [_request(number, changes) for number, changes in enumerate(self.changes)]


def _request(seed: int, changes: Arguments) -> Arguments:
    options: Arguments = {
        "particles": 4,
        "rounds": 3,
        "refinements": 2,
        "minibatch": 4,
        "beta": 5.0,
        "splits": {"validation": 10, "selection": 5, "test": 7},
    }
    more = cast("Arguments", changes.get("options", {}))
    request: Arguments = {
        "instructions": "Add the two numbers.",
        "executor": "scripted:default",
        "examples": [
            {"input": _question(number), "target": str(_target(number))} for number in range(_ROWS)
        ],
        "scorer": "numeric",
        "seed": seed,
        "idempotency_key": f"run {seed}",
    }
    return request | changes | {"options": options | more}


class Moment(NamedTuple):
    """When a server is killed.

    Attributes:
        calls: Once so many different calls of the runs were answered in all, or None.
        seconds: So long after that, or after the server's handshake.
    """

    calls: int | None
    seconds: float


class Kill(NamedTuple):
    """One kill.

    Attributes:
        moment: When it was to be.
        lived: How long the server had lived, in seconds.
        begun: Calls it had begun.
        committed: Answers that were on the disk.
        in_flight: Calls it had begun whose answer was not on the disk.
        repeated: Calls begun later whose answer was on the disk; there must be none.
    """

    moment: Moment
    lived: float
    begun: int
    committed: int
    in_flight: int
    repeated: int


class _Killer(threading.Thread):
    """Kills a server at a moment; `fired` says whether it came to that."""

    def __init__(self, server: ServerProcess, moment: Moment, log: _Log) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._moment = moment
        self._log = log
        self.fired = False
        self.over = threading.Event()

    def run(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not self._is_due():
            if time.monotonic() > deadline or self.over.wait(0.003):
                return
        select.select([], [], [], self._moment.seconds)
        self.fired = True
        os.kill(self._server.process.pid, signal.SIGKILL)

    def _is_due(self) -> bool:
        self._log.read()
        return self._moment.calls is None or len(self._log.finished) >= self._moment.calls


@dataclass
class Ordeal:
    """The runs of a scene, their servers killed at some moments, to their end.

    Attributes:
        folder: Everything is kept here.
        scene: What runs.
        asked: How often a run had to be resumed by hand, having been taken over too often.
    """

    folder: Path
    scene: Scene
    asked: int = 0
    kills: list[Kill] = field(default_factory=list[Kill])
    run_ids: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._db = self.folder / "runs.sqlite3"
        self._calls = self.folder / "calls"
        self._script = chaos_script(self.folder / "script.json", self._calls)
        self._log = _Log(self._calls)
        self._answered: set[str] = set()
        self._known: list[tuple[int, set[int]]] = []  # at each kill: notes, samples on the disk

    @property
    def calls(self) -> Counter[str]:
        """How often each call was begun."""
        self._log.read()
        return Counter(self._log.begun())

    @property
    def distinct(self) -> int:
        """How many different calls there were."""
        return len(self.calls)

    def endure(self, moments: Sequence[Moment] = ()) -> list[Footprint]:
        """Kills a server at each moment, lets the last one finish; what each run left."""
        for moment in moments:
            self._live(moment)
        self._live(None)
        begun = self._log.begun
        for number, (notes, known) in enumerate(self._known):
            repeated = sum(_sample(key) in known for key in begun(notes))
            self.kills[number] = self.kills[number]._replace(repeated=repeated)
        return asyncio.run(self._footprints())

    # --- one server --------------------------------------------------------------------------

    def _live(self, moment: Moment | None) -> None:
        """A server's life: until it is killed, or until all runs have finished."""
        self._log.read()
        notes, began = len(self._log.notes), time.monotonic()
        with ServerProcess(self._db, self._script, log=self.folder / "stderr") as server:
            if moment is None:
                self._use(server)
                return
            killer = _Killer(server, moment, self._log)
            killer.start()
            try:
                self._use(server)
            except (AssertionError, OSError, ValueError):
                if server.process.wait(_PATIENCE) != -signal.SIGKILL or not killer.fired:
                    raise
            finally:
                killer.over.set()
                killer.join()
        if killer.fired:
            self._note(moment, time.monotonic() - began, notes)

    def _note(self, moment: Moment, lived: float, notes: int) -> None:
        self._log.read()
        known = {sample_number(key) for key in self._committed()}
        begun = self._log.begun(notes)
        lost = sum(_sample(key) not in known for key in begun)
        self.kills.append(Kill(moment, lived, len(begun), len(known), lost, 0))
        self._known.append((len(self._log.notes), known))

    def _committed(self) -> list[str]:
        """Keys of the answers on the disk, read as another program would."""
        return [str(row[0]) for row in self._rows("SELECT key FROM completions")]

    def _rows(self, query: str, *values: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self._db)) as connection:
            return connection.execute(query, values).fetchall()

    # --- the client --------------------------------------------------------------------------

    def _use(self, server: ServerProcess) -> None:
        """What a client does until all runs have finished."""
        if len(self.run_ids) < len(self.scene.changes):
            # After a kill in between, the idempotency keys give the runs there are.
            self.run_ids = [
                str(server.call("start_bayesflow_run", request)["run_id"])
                for request in self.scene.requests()
            ]
        agents = [self._client(server, run_id) for run_id in self.run_ids]
        deadline = time.monotonic() + _PATIENCE
        while True:
            finished = [agent() for agent in agents]
            if all(finished):
                return
            assert time.monotonic() < deadline, "the runs do not finish"
            select.select([], [], [], 0.1)

    def _client(self, server: ServerProcess, run_id: str) -> Callable[[], bool]:
        """Looks after a run; returns whether it has finished."""
        answers = self.scene.changes[self.run_ids.index(run_id)].get("optimizer") == "client"

        def look() -> bool:
            state = server.call("get_run", {"run_id": run_id, "wait_seconds": 0})
            if state["status"] == "interrupted" and "resume_run" in str(state["reason"]):
                self.asked += 1
                state = server.call("resume_run", {"run_id": run_id})
            assert state["status"] not in ("paused", "failed", "cancelled"), state
            if answers and state["status"] == "waiting_for_client":
                self._answer(server, run_id)
            return state["status"] == "finished"

        return look

    def _answer(self, server: ServerProcess, run_id: str) -> None:
        given = server.call("next_proposals", {"run_id": run_id, "limit": 8})
        proposals: list[Object] = json.loads(json.dumps(given["proposals"]))
        answers = [
            {"proposal_id": one["proposal_id"], "text": self._text(one)} for one in proposals
        ]
        if answers:
            server.call("submit_proposals", {"run_id": run_id, "answers": answers})

    def _text(self, proposal: Object) -> str:
        """An agent's answer, which the question's name alone decides."""
        prompt, asked = str(proposal["prompt"]), str(proposal["proposal_id"])
        [(name,)] = self._rows("SELECT name FROM proposals WHERE proposal_id = ?", asked)
        if "Write no code." in prompt:
            return _CRITIQUE
        step = re.search(r"from step (\d) on", prompt)
        seed = hashlib.blake2b(str(name).encode(), digest_size=4).digest()
        return _written(int(step[1]) if step else 1, int.from_bytes(seed, "big"))

    # --- the end -----------------------------------------------------------------------------

    async def _footprints(self) -> list[Footprint]:
        async with Application(Settings(db=self._db)) as application:
            service = await application.runs()
            return [await footprint(service, run_id) for run_id in self.run_ids]

    def paid(self) -> int:
        """Calls that the runs' accounts hold."""
        [(calls,)] = self._rows("SELECT COALESCE(SUM(calls), 0) FROM usage WHERE model <> 'client'")
        assert isinstance(calls, int)
        return calls

    def answers_on_disk(self) -> int:
        """How many answers the file holds."""
        return len(self._committed())

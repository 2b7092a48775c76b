"""The battery as solutions under test: none passes, none gets out, none stops the judge."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings

from bayesflow_sandbox.errors import SandboxError
from bayesflow_sandbox.locked.kernel import missing
from bayesflow_sandbox.locked.trial import Trials
from bayesflow_sandbox.unit_tests import TestReport, UnitTests
from fakes.hostile_bytes import streams
from fakes.payloads import Payload, load_payloads
from fakes.planted import Planted, planted
from sandbox.battery import TIGHT, PreyHost, got_out, shared, solution

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="plants and watches through /proc"),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]
one_loop = pytest.mark.asyncio(loop_scope="module")

EXPECTED: Final = "expected-4711"
TESTS: Final = UnitTests(
    cases=(f"assert solve() == {EXPECTED!r}", f"assert solve() == {EXPECTED!r}")
)
PAYLOADS: Final = [
    payload
    for payload in load_payloads()
    if "await" not in payload.code and "self" not in payload.code
]


@pytest.fixture(scope="module")
def prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    with planted(tmp_path_factory.mktemp("planted")) as prey:
        sibling = prey.sibling
        yield prey
        assert not prey.processes()
        assert prey.sibling is sibling


@shared()
async def trials() -> AsyncIterator[Trials]:
    trials = Trials(pairs=1)
    yield trials
    await trials.aclose()


async def tried(trials: Trials, source: str) -> TestReport | SandboxError:
    try:
        return await trials.run(source, "solve", TESTS, TIGHT, seed=0)
    except SandboxError as error:
        return error


def marked(payload: Payload) -> Any:
    slow = payload.marker == "overrun"
    return pytest.param(payload, id=str(payload), marks=pytest.mark.slow if slow else ())


# Solutions that do not go for the answer but for the tests: what they call, catch and count.
TRICKS: Final = {
    "names that the tests use": "def solve():\n    return 7\ndef math(): pass\n"
    "def floor(x): return 4711\nmath.floor = floor\ndef int(x): return 4711\n"
    "def check(candidate): pass\ndef candidate(): return 4711\nEXPECTED = 7\n",
    "an error of tests": "def solve():\n    raise AssertionError('passed')\n",
    "an error that ends a loop": "def solve():\n    raise StopIteration\n",
    "an error that ends a program": "def solve():\n    raise SystemExit(0)\n",
    "an error named like none": "def solve():\n    raise type('_Gone', (BaseException,), {})\n",
    "an end while loading": "import os\nos._exit(0)\n",
    "an end as of success while loading": "import sys\nsys.exit(0)\n",
    "an end in a call": "import os\ndef solve():\n    os._exit(0)\n",
    "an end that says memory": "import os\ndef solve():\n    os._exit(77)\n",
    "a report instead of an answer": "import os, struct\n"
    "from bayesflow_sandbox.locked.codec import encode\ndef solve():\n"
    "    body = encode([2, [], None], 1000)\n"
    "    os.write(3, struct.pack('>IB', len(body), ord('R')) + body)\n    os._exit(0)\n",
    "answers in advance": "import os, struct\nfrom bayesflow_sandbox.locked.codec import encode\n"
    "def solve():\n    body = encode(['value', True, 'bool'], 1000)\n"
    "    os.write(3, (struct.pack('>IB', len(body), ord('R')) + body) * 100)\n    return True\n",
    "calls of the judge's": "import os, struct\n"
    "from bayesflow_sandbox.locked.codec import encode\ndef solve():\n"
    "    body = encode(['solve', (), {}], 1000)\n"
    "    os.write(3, struct.pack('>IB', len(body), ord('C')) + body)\n    return 7\n",
    "no frame at all": "import os\ndef solve():\n    os.close(3)\n    return 7\n",
    "the codec patched": "from bayesflow_sandbox.locked import codec, solution\n"
    "solution.encode = lambda *given: b'T'\ndef solve():\n    return 7\n",
    "keys that collide": "def solve():\n"
    "    return {number * ((1 << 61) - 1): 0 for number in range(20_000)}\n",
    "a false match": "import re\ndef solve():\n    return re.match('x', 'x')\n",
    "an endless iterator": "import itertools\ndef solve():\n    return itertools.repeat(4711)\n",
}
HARD: Final = UnitTests(
    setup="import math\nEXPECTED = 4711\n",
    cases=(
        "assert math.floor(solve()) == int(EXPECTED)",
        "for found in [solve()]:\n    assert type(found) is int and found == EXPECTED",
        "def check(candidate):\n    assert candidate() == 4711",
    ),
)


@one_loop
@pytest.mark.parametrize("trick", TRICKS)
async def test_a_trick_on_the_judge_passes_no_test(
    trick: str, prey: Planted, trials: Trials
) -> None:
    prey.rest()
    for tests in (HARD, TESTS):
        report = await trials.run(TRICKS[trick], "solve", tests, TIGHT, seed=0)
        assert got_out(prey, report, PreyHost(prey)) == set()
        assert not report.passed
        assert report.error is not None or len(report.failures) == len(tests.cases)


@one_loop
async def test_the_answer_itself_passes(trials: Trials) -> None:
    for tests, answer in ((TESTS, EXPECTED), (HARD, 4711)):
        source = f"def solve():\n    return {answer!r}\n"
        assert (await trials.run(source, "solve", tests, TIGHT, seed=0)).passed


@one_loop
@pytest.mark.parametrize("payload", [marked(payload) for payload in PAYLOADS])
async def test_a_payload_passes_no_test(payload: Payload, prey: Planted, trials: Trials) -> None:
    prey.rest()
    report = await tried(trials, solution(payload, prey))
    assert got_out(prey, report, PreyHost(prey)) == set()
    assert len(repr(report)) < 50_000


SENDS: Final = """
import os
def solve():
    os.write(3, SENT)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def judged() -> Iterator[Callable[[str], TestReport]]:
    """Tries a solution from outside of any event loop, as Hypothesis needs it."""
    with asyncio.Runner() as runner:
        trials = Trials(pairs=1)
        yield lambda source: runner.run(trials.run(source, "solve", HARD, TIGHT, seed=0))
        runner.run(trials.aclose())


@given(streams)
@settings(max_examples=150, deadline=None)
def test_a_trial_ends_with_a_report_whatever_the_solution_sends(
    judged: Callable[[str], TestReport], stream: bytes
) -> None:
    report = judged(f"SENT = {stream!r}\n{SENDS}")
    assert not report.passed
    repr(report).encode()

"""Hostile workflows of every family that a sandbox must stand: with the policy, and without it.

A payload succeeds if it writes the marker file, returns the secret, or changes the host. Each runs
twice: as it is (the policy or the interpreter must make it a failure) and with the policy switched
off (the interpreter alone must keep the marker and the secret away, whatever it returns).
"""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.host import workflow_functions
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.monty import MontyEngine
from bayesflow_sandbox.outcome import Outcome
from bayesflow_sandbox.program import compile_program
from bayesflow_sandbox.sandbox import Sandbox
from sandbox.workflows import EchoHost, workflow

SECRET = "expected-answer-4711"
TIGHT = Limits(
    run_seconds=0.3, memory_bytes=16 << 20, host_calls=50, sleep_seconds=0.05, wall_seconds=20
)

PAYLOADS: dict[str, list[str]] = {
    "dunder walks": [
        "return [c.__name__ for c in ().__class__.__base__.__subclasses__()][0]",
        "return self.__init__.__globals__['__builtins__']['open'](MARKER, 'w')",
        "return type(self).__mro__[-1].__subclasses__()",
        "return create_llm_instance.__globals__",
        "return self.llm.call_llm.__func__.__code__.co_consts",
        "return (lambda: 0).__closure__[0].cell_contents",
        "return [].__reduce_ex__(2)[0].__globals__",
        "return __builtins__['__import__']('os').environ['SECRET']",
        "match self.llm:\n    case object(__class__=c):\n        return c.__subclasses__()",
    ],
    "format attribute walks": [
        "return '{0.__class__.__init__.__globals__}'.format(self)",
        "return '{0.llm.__class__}'.format(self)",
        "return '{x.__init__.__globals__[SECRET]}'.format_map({'x': self})",
        "return str.format('{0.__class__.__mro__}', 1)",
    ],
    "frames": [
        "def g():\n    yield 1\nreturn g().gi_frame.f_back.f_globals",
        "async def f():\n    pass\nc = f()\nreturn c.cr_frame.f_globals",
        "try:\n    1 / 0\nexcept Exception as e:\n    return e.__traceback__.tb_frame.f_back",
        "import sys\nreturn sys._getframe(1).f_globals",
        "import inspect\nreturn inspect.stack()",
    ],
    "files": [
        "open(MARKER, 'w').write('x')",
        "import pathlib\npathlib.Path(MARKER).write_text('x')",
        "import os\nos.mkdir(MARKER)",
        "import os\nreturn os.listdir('/')[0] + SECRET",
        "import os\nos.rename('/etc/hostname', MARKER)",
        "from io import open as o\no(MARKER, 'w')",
        "import tempfile\nreturn tempfile.mkdtemp()",
        "return open('/proc/self/environ').read()",
        "import os\nreturn open(f'/proc/{os.getppid()}/mem', 'rb').read(10)",
        "import shutil\nshutil.copy('/etc/hostname', MARKER)",
    ],
    "environment": [
        "import os\nreturn os.environ['SECRET']",
        "import os\nreturn os.getenv('SECRET')[:99]",
        "from os import environ\nreturn dict(environ)",
        "import os.path\nreturn os.path.expandvars('$SECRET')[7]",
    ],
    "processes and signals": [
        "import subprocess\nsubprocess.run(['touch', MARKER])",
        "import os\nos.system('touch ' + MARKER)",
        "import asyncio\nawait asyncio.create_subprocess_shell('touch ' + MARKER)",
        "import os\nwhile True:\n    os.fork()",
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
        "import signal\nsignal.signal(signal.SIGALRM, print)",
        "import threading\nthreading.Thread(target=print).start()",
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
        "import os\nos.setsid()",
        "raise SystemExit(0)",
        "raise KeyboardInterrupt()",
        "import os\nos._exit(0)",
    ],
    "sockets": [
        "import socket\nsocket.create_connection(('127.0.0.1', 80))",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
        "import asyncio\nawait asyncio.open_connection('127.0.0.1', 80)",
        "import http.client\nhttp.client.HTTPConnection('127.0.0.1').connect()",
    ],
    "native code": [
        "import ctypes\nctypes.string_at(0)",
        "import mmap\nmmap.mmap(-1, 1)",
        "import gc\nreturn gc.get_objects()",
        "import _ctypes\nreturn 1",
    ],
    "evaluation": [
        "eval(\"__import__('os').system('touch ' + MARKER)\")",
        "exec('import os\\nos.mkdir(MARKER)')",
        "compile('1', 'x', 'eval')",
        "import typing\ntyping.get_type_hints(self)\nraise ValueError()",
        "import pickle\npickle.loads(b'cos\\nsystem\\n(S\"id\"\\ntR.')",
        "import marshal\nmarshal.loads(b'')",
        "import importlib\nimportlib.import_module('os')",
    ],
    "poisoning": [
        "import sys\nsys.modules['json'] = None\nraise ValueError()",
        "import math\nmath.pi = 3",
        "import builtins\nbuiltins.len = print",
        "import json\njson.dumps = print",
        "str.upper = print",
        "import statistics\nstatistics.sys.modules.clear()",
        "import atexit\natexit.register(print)",
    ],
    "stealing answers": [
        "return _bayesflow_arguments[1]",
        "return globals()",
        "return self.llm.host",
        "return self.llm._host",
        "return vars(self.llm)['host']",
        "import inspect\nreturn inspect.currentframe()",
    ],
    "exhaustion": [
        "while True:\n    try:\n        while True:\n            pass\n    except:\n        pass",
        "x = 'a'\nwhile True:\n    x += x",
        "x = {}\nwhile True:\n    x[len(x)] = 'a' * 1000",
        "return 9 ** 9 ** 9",
        "return int('9' * 5000)",
        "def f():\n    f()\nf()",
        "import re\nreturn re.match('(a+)+\\\\1$', 'a' * 3000 + 'b').group()",
        "import time\nwhile True:\n    time.sleep(1)",
        "while True:\n    print('x' * 10000)",
        "import json\nreturn json.loads('[' * 100000)",
        "while True:\n    await self.llm.call_llm(['x'])",
        "import asyncio\nawait asyncio.gather(*[self.llm.call_llm(['x']) for i in range(9999)])",
        "return sorted(range(10 ** 9))",
        "return 'x'.ljust(10 ** 10)",
        "import itertools\nreturn list(itertools.permutations(range(99)))",
    ],
    "arguments to the host": [
        "await self.llm.call_llm([self])",
        "await self.llm.call_llm(['x' * 2000000])",
        "await self.llm.call_llm(['x'], stop=['x'] * 999)",
        "await self.llm.call_llm(['x'], temperature=float('nan'))",
        "await self.llm.call_llm(['x'], num_of_response=10 ** 9)",
        "await self.llm.call_llm(['x'], num_of_response=True)",
        "await self.llm.call_llm([{'role': 'tool', 'content': 'x'}])",
        "await self.llm.call_llm(['x'], __class__=1)",
        "x = ['x']\nfor i in range(40):\n    x = [x, x]\nawait self.llm.call_llm(x)",
    ],
    "false objects": [
        "class E:\n    def __eq__(self, o):\n        return True\nreturn E()",
        "class E(str):\n    def __eq__(self, o):\n        return True\nreturn E('x')",
        "return type('E', (), {'__eq__': lambda s, o: True})()",
        "return [self.llm]",
    ],
}
CASES = [(family, body) for family, bodies in PAYLOADS.items() for body in bodies]


class SecretHost(EchoHost):
    """Has what a workflow wants; no workflow may reach it."""

    host = SECRET


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECRET", SECRET)
    return tmp_path / "marker"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(workers=1) as sandbox:
        yield sandbox


def armed(body: str, marker: Path) -> str:
    return workflow(body, before=f"MARKER = {str(marker)!r}\n")


def assert_contained(outcome: Outcome, marker: Path) -> None:
    assert not marker.exists()
    assert SECRET not in repr(outcome)
    assert os.environ["SECRET"] == SECRET
    assert sys.modules["json"].dumps(1) == "1"


@pytest.mark.parametrize(("family", "body"), CASES)
async def test_a_payload_is_refused_or_fails(
    family: str, body: str, marker: Path, sandbox: Sandbox
) -> None:
    host = SecretHost()
    outcome = await sandbox.run_workflow(armed(body, marker), ["six"], host, TIGHT)
    assert outcome.failure is not None, family
    assert_contained(outcome, marker)
    assert all(call.num_of_response <= 32 for call in host.calls)
    assert (await sandbox.run_workflow(workflow("return 1"), ["six"], host, TIGHT)).value == 1


@pytest.mark.parametrize(("family", "body"), CASES)
async def test_a_payload_is_contained_without_the_policy(
    family: str, body: str, marker: Path
) -> None:
    swallowed = "try:\n" + "\n".join("    " + line for line in body.split("\n"))
    swallowed += "\nexcept BaseException:\n    pass\nreturn 'swallowed'"
    engine = MontyEngine(workers=1)
    try:
        for variant in (body, swallowed):
            host = SecretHost()
            door = Door(workflow_functions(host), host.get_usage_summary, TIGHT.host_calls)
            program = compile_program(armed(variant, marker))
            assert_contained(await engine.run(program, ["six"], door, TIGHT, seed=0), marker)
            assert len(host.calls) <= TIGHT.host_calls, family
    finally:
        await engine.aclose()

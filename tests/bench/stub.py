"""The endpoint that the benches ask: the test suite's, in a process of its own."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fakes.unhappy_endpoint import Mood

__all__ = ["stub_endpoint"]

_PROGRAM = Path(__file__).parents[1] / "fakes" / "unhappy_endpoint.py"


@contextmanager
def stub_endpoint(mood: Mood) -> Generator[int, None, None]:
    """Its port on 127.0.0.1, for as long as the block lasts."""
    with subprocess.Popen(
        [sys.executable, str(_PROGRAM), mood.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the endpoint has no pipes")
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(timeout=30)

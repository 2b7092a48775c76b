"""What the zygote imports before it forks: children can open no file, so they have these or none.

All that a workflow may import, what those import late, and what unit tests and solutions use.
"""

import importlib
from typing import Final

from bayesflow_sandbox.allowed import MODULES

__all__ = ["preload"]

_LATE: Final = "_strptime encodings.idna encodings.ascii encodings.latin_1 encodings.utf_16 locale"
_TESTS: Final = (
    "abc ast base64 binascii calendar cmath collections.abc contextlib csv ctypes difflib enum "
    "fractions hashlib heapq inspect io keyword linecache numbers operator pprint queue reprlib "
    "secrets string struct sys textwrap threading timeit token tokenize traceback types unittest "
    "unittest.mock uuid warnings weakref zlib asyncio.taskgroups asyncio.timeouts array copyreg "
    "graphlib html os os.path pathlib pickle platform shlex urllib.parse xml.etree.ElementTree"
)


def preload() -> None:
    """Imports all of it; what this Python does not have is left out."""
    for name in (*MODULES, *_LATE.split(), *_TESTS.split()):
        try:
            importlib.import_module(name)
        except ImportError:
            continue

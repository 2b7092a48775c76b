"""One child: takes its end of the channel, confines itself, reads its job, runs it, ends.

A profile says what a child does. ``begin`` runs before the lock and may still open what the
profile needs; what it returns runs behind the lock and is the first to read from the wire.
Called by ``zygote`` in the process that it has just forked.
"""

import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn, TextIO, cast

from bayesflow_sandbox.locked import judge, solution, workflow
from bayesflow_sandbox.locked.channel import OUT_OF_MEMORY, Wire
from bayesflow_sandbox.locked.lockdown import Allowance, Lockdown, LockdownError
from bayesflow_sandbox.locked.streams import Sink

__all__ = ["MAX_DESCRIPTORS", "PROFILES", "Profile", "live"]

Profile = Callable[[], Callable[[Wire], None]]

PROFILES: Final[dict[str, Profile]] = {
    "workflow": workflow.begin,
    "solution": solution.begin,
    "judge": judge.begin,
}

# The zygote opens no descriptor from this number on.
MAX_DESCRIPTORS: Final = 256
_WIRE: Final = 3


def live(
    descriptor: int,
    profile: str,
    lockdown: Lockdown,
    allowance: Allowance,
    without: frozenset[str],
) -> NoReturn:
    """Lives one child's life.

    Args:
        descriptor: The child's end of the channel.
        profile: A key of ``PROFILES``.
        lockdown: How to confine.
        allowance: What the child may use.
        without: Defences that a test switches off.
    """
    status = 1
    try:
        os.dup2(descriptor, _WIRE)
        os.closerange(_WIRE + 1, MAX_DESCRIPTORS)
        wire = Wire(_WIRE)
        sys.stdin = sys.stdout = sys.stderr = cast("TextIO", Sink())
        run = PROFILES[profile]()
        try:
            lockdown.enter(allowance, without)
        except LockdownError as error:
            wire.send(b"X", str(error).encode()[:500])
        else:
            wire.send(b"S", b"")
            run(wire)
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        os._exit(status)

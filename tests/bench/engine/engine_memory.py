"""N = 1000, T = 10: memory, and the engine's own processor time a draw. Each search in a child."""

import json
import os
import subprocess
import sys

from bench.engine.weighing import PARTICLES, ROUNDS, Weight
from bench.figures import Figure

__all__ = ["engine_memory"]

_MS_A_DRAW = 0.2
_CHILD = "from bench.engine.weighing import main; main()"


def engine_memory() -> list[Figure]:
    """K = 1 and 2, without and with edits."""
    return [
        figure
        for rollouts, refinements in ((1, 0), (1, 10), (2, 0), (2, 10))
        for figure in _figures(rollouts, refinements)
    ]


def _figures(rollouts: int, refinements: int) -> list[Figure]:
    weight = _weighed(rollouts, refinements)
    case = f"N={PARTICLES} T={ROUNDS} K={rollouts} M={refinements}"
    engine, ports = weight.engine_ms / weight.draws, weight.ports_ms / weight.draws
    return [
        Figure(
            f"engine's processor time a draw, {case}",
            f"at most {_MS_A_DRAW} ms",
            f"{engine:.3f} ms ({weight.draws} draws; the ports took {ports:.3f} ms more)",
            engine <= _MS_A_DRAW,
        ),
        Figure(
            f"peak memory of the search, {case}",
            "none",
            f"{weight.peak_mb:.0f} MB, of which the journal's text {weight.journal_mb:.0f} MB",
            None,
        ),
    ]


def _weighed(rollouts: int, refinements: int) -> Weight:
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(rollouts), str(refinements)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return Weight(*json.loads(child.stdout))

"""`make bench`: goal, figure, met or missed, for each; asserts nothing.

python tests/bench/run.py [--seeds 101,102,…] [--only cold_start,journal,…]
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.arithmetic import arithmetic
from bench.cold_start import cold_start
from bench.datasets import datasets
from bench.efficiency.preset_variations import preset_variations
from bench.efficiency.sample_efficiency import sample_efficiency
from bench.engine.engine_memory import engine_memory
from bench.engine.engine_time import engine_time
from bench.executions import executions
from bench.figures import Figure, say, table
from bench.gateway_calls import gateway_calls
from bench.journal import journal
from bench.large_pool import large_pool
from bench.limiter import limiter
from bench.sandbox import sandbox
from bench.scorers import scorers
from bench.server_memory import server_memory
from bench.single_call import single_call
from bench.tool_calls import tool_calls

# Never used while the grammar, the rows or the options were made.
_SEEDS = "101,102,103,104,105,106,107,108,109,110"


def main() -> None:
    """Runs the benches that were asked for and prints their table."""
    parser = argparse.ArgumentParser(description="Benches: goal, figure, met or missed.")
    parser.add_argument("--seeds", default=_SEEDS, help="seeds of the arithmetic bench")
    parser.add_argument("--landscapes", type=int, default=60, help="of the sampler's benches")
    parser.add_argument("--blind-edits", action="store_true", help="in the sampler's benches")
    parser.add_argument("--only", help="names of benches, separated by commas")
    options = parser.parse_args()
    informed = not options.blind_edits
    seeds = [int(seed) for seed in options.seeds.split(",")]
    benches: dict[str, Callable[[], list[Figure]]] = {
        "cold_start": cold_start,
        "tool_calls": tool_calls,
        "large_pool": large_pool,
        "server_memory": server_memory,
        "sandbox": sandbox,
        "scorers": scorers,
        "datasets": datasets,
        "executions": executions,
        "journal": journal,
        "gateway_calls": gateway_calls,
        "limiter": limiter,
        "single_call": single_call,
        "engine_time": engine_time,
        "engine_memory": engine_memory,
        "sample_efficiency": lambda: sample_efficiency(options.landscapes, informed=informed),
        "balanced_variations": lambda: preset_variations(
            "balanced", options.landscapes, informed=informed
        ),
        "quick_variations": lambda: preset_variations(
            "quick", options.landscapes, informed=informed
        ),
        "arithmetic": lambda: arithmetic(seeds),
    }
    chosen = options.only.split(",") if options.only else list(benches)
    figures: list[Figure] = []
    for name in chosen:
        say(f"{name} …")
        figures += benches[name]()
    say("")
    say(table(figures))


if __name__ == "__main__":
    main()

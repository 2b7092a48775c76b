"""The flags of `bayesflow-mcp bench`; no heavy import, for the parser is built at every start."""

import argparse
from dataclasses import dataclass
from typing import Final, cast

__all__ = ["BenchFlags", "add_bench_flags", "bench_flags"]

_PRESETS: Final = ("paper", "balanced", "quick")


@dataclass(frozen=True)
class BenchFlags:
    """What the command line says, unchecked.

    Attributes:
        name: The benchmark, or None.
        data: Its file or folder, or None.
        optimizer: What writes the workflows, or None.
        executor: What runs them, or None.
        preset: Named settings.
        seeds: How many searches.
        rows: How many rows are sampled, or None.
        data_seed: Chooses them.
        repeats: Passes over the test rows.
        baselines: Whether the fixed baselines are measured.
        ablation: Each N of Table 3, with commas between; or None.
        rounds_figure: Whether Figure 2 is measured.
        transfer: Another executor, or None.
        transfer_rows: Test rows of the transfer.
        option: Sampler options, each NAME=VALUE.
        out: The file for the result, or None.
        json: JSON on stdout, everything else on stderr.
        compare: Two files to compare, or None.
    """

    name: str | None
    data: str | None
    optimizer: str | None
    executor: str | None
    preset: str
    seeds: int
    rows: int | None
    data_seed: int
    repeats: int
    baselines: bool
    ablation: str | None
    rounds_figure: bool
    transfer: str | None
    transfer_rows: int
    option: tuple[str, ...]
    out: str | None
    json: bool
    compare: tuple[str, str] | None


def add_bench_flags(parser: argparse.ArgumentParser) -> None:
    """Declares everything but the budget."""
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="gsm8k, math, hotpotqa, drop, mmlu_pro, gpqa, mbpp or humaneval",
    )
    parser.add_argument(
        "--data", metavar="PATH", help="its file or folder as its authors publish it"
    )
    parser.add_argument("--optimizer", metavar="MODEL", help="writes workflows: a model or grammar")
    parser.add_argument("--executor", metavar="MODEL", help="model that the workflows call")
    parser.add_argument(
        "--preset", choices=_PRESETS, default="paper", help="named settings (default: paper)"
    )
    parser.add_argument("--seeds", type=int, metavar="N", default=3, help="searches (default: 3)")
    parser.add_argument(
        "--rows", type=int, metavar="N", help="rows to sample (default: at most 1000)"
    )
    parser.add_argument(
        "--data-seed",
        type=int,
        metavar="N",
        default=0,
        help="chooses sample and split (default: 0)",
    )
    parser.add_argument(
        "--repeats", type=int, metavar="N", default=5, help="passes over the test rows (default: 5)"
    )
    parser.add_argument(
        "--baselines",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure IO, CoT and CoT-SC on the same rows",
    )
    parser.add_argument(
        "--ablation", metavar="N,N,...", help="Table 3: other numbers of particles at fixed N + M"
    )
    parser.add_argument(
        "--rounds-figure", action="store_true", help="Figure 2: rewards per round without refining"
    )
    parser.add_argument(
        "--transfer", metavar="MODEL", help="Table 4: the best workflows run by another executor"
    )
    parser.add_argument(
        "--transfer-rows",
        type=int,
        metavar="N",
        default=100,
        help="test rows of Table 4 (default: 100)",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one of the sampler's options, e.g. particles=4 (repeatable)",
    )
    parser.add_argument("--out", metavar="FILE", help="JSON file for everything that was measured")
    parser.add_argument(
        "--json", action="store_true", help="print that JSON on stdout, all else on stderr"
    )
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="compare two files of --out instead"
    )


def bench_flags(options: argparse.Namespace) -> BenchFlags:
    """What was given."""
    compare = cast("list[str] | None", options.compare)
    return BenchFlags(
        name=options.name,
        data=options.data,
        optimizer=options.optimizer,
        executor=options.executor,
        preset=options.preset,
        seeds=options.seeds,
        rows=options.rows,
        data_seed=options.data_seed,
        repeats=options.repeats,
        baselines=options.baselines,
        ablation=options.ablation,
        rounds_figure=options.rounds_figure,
        transfer=options.transfer,
        transfer_rows=options.transfer_rows,
        option=tuple(options.option),
        out=options.out,
        json=options.json,
        compare=None if compare is None else (compare[0], compare[1]),
    )

"""`bench`: the paper's tables for one benchmark, measured; and two measurements compared."""

import asyncio
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from rich.console import Console
from rich.table import Table

from bayesflow_sampler.prompts import load_templates
from bayesflow_server.app import Application
from bayesflow_server.benchmarks.driver import BenchDriver, Provenance
from bayesflow_server.benchmarks.loading import load_benchmark
from bayesflow_server.benchmarks.plan import BenchRequest
from bayesflow_server.benchmarks.registry import BENCHMARKS, find_benchmark
from bayesflow_server.benchmarks.results import BenchResult, Versions
from bayesflow_server.benchmarks.saved import (
    check_place,
    compare_results,
    file_digest,
    read_result,
    write_result,
)
from bayesflow_server.benchmarks.tables import TextTable, all_tables
from bayesflow_server.errors import InputError
from bayesflow_server.plots.rewards import RoundRewards, draw_rewards
from bayesflow_server.plots.style import has_matplotlib
from bayesflow_server.runs.options import parse_options
from bayesflow_server.runs.service import RunService
from bayesflow_server.settings import Settings
from bayesflow_server.terminal.bench_flags import BenchFlags
from bayesflow_server.terminal.exit_codes import DONE, UNFINISHED
from bayesflow_server.terminal.live import follow
from bayesflow_server.terminal.option_flags import parse_option_flags
from bayesflow_server.terminal.request import budget_of
from bayesflow_server.terminal.screen import cell, open_console, say, write_json
from bayesflow_server.terminal.stopping import run_command

if TYPE_CHECKING:
    from bayesflow_server.evaluation.task import Preset

__all__ = ["bench"]

_KEPT: Final = "Everything measured is kept; the same command goes on where it stopped"


def bench(settings: Settings, flags: BenchFlags, budget_flags: Mapping[str, float | None]) -> int:
    """Measures a benchmark, or compares two files of `--out`."""
    if flags.compare is not None:
        return _compare(*flags.compare, as_json=flags.json)
    request = _request(flags, budget_flags)
    place = None if flags.out is None else check_place(flags.out)
    return run_command(_work(settings, request, flags, place))


@dataclass(frozen=True)
class _Screen:
    """Shows a measurement's progress; implements `measuring.Watch`."""

    console: Console
    runs: RunService

    def say(self, line: str) -> None:
        say(self.console, line)

    async def follow(self, run_id: str) -> None:
        await follow(self.console, self.runs, run_id)


def _request(flags: BenchFlags, budget_flags: Mapping[str, float | None]) -> BenchRequest:
    """What the flags ask for.

    Raises:
        InputError: Something is missing or wrong.
    """
    if flags.name is None:
        raise InputError(f"Name the benchmark: {', '.join(BENCHMARKS)}; or --compare two files.")
    benchmark = find_benchmark(flags.name)
    if flags.data is None:
        raise InputError(f"{benchmark.title} needs --data PATH: {benchmark.expects}.")
    if flags.executor is None:
        raise InputError("Name the model that the workflows call: --executor MODEL.")
    if flags.optimizer is None:
        raise InputError("Name what writes the workflows, a model or grammar: --optimizer MODEL.")
    return BenchRequest(
        benchmark=load_benchmark(
            benchmark.name, flags.data, rows=flags.rows, data_seed=flags.data_seed
        ),
        optimizer=flags.optimizer,
        executor=flags.executor,
        preset=cast("Preset", flags.preset),
        options=parse_options(parse_option_flags(flags.option)),
        seeds=flags.seeds,
        repeats=flags.repeats,
        baselines=flags.baselines,
        ablation=_numbers(flags.ablation),
        rounds_figure=flags.rounds_figure,
        transfer=flags.transfer,
        transfer_rows=flags.transfer_rows,
        budget=budget_of({}, budget_flags),
    )


async def _work(
    settings: Settings, request: BenchRequest, flags: BenchFlags, place: Path | None
) -> int:
    console = open_console(stderr=flags.json)
    begun = False
    try:
        async with Application(settings) as application:
            runs = await application.runs()
            screen = _Screen(console, runs)
            driver = BenchDriver(runs, await application.evaluations(), request, screen)
            await _announce(screen, driver)
            begun = True
            stopped = await driver.work()
            spent = await driver.spent()
            result = driver.result(_provenance(flags), stopped)
    except asyncio.CancelledError:
        if begun:
            say(console, f"Stopped. {_KEPT}.")
        raise
    _show(console, result, as_json=flags.json)
    money = "" if not spent.usd else f", {spent.usd:.4f} USD"
    screen.say(f"Spent {spent.calls} calls, {spent.tokens} tokens{money} in all.")
    if place is not None:
        for path in _write(result, place):
            screen.say(f"wrote {path}")
    if stopped is not None:
        larger = " with a larger --usd, --calls, --tokens or --minutes (the new total)"
        screen.say(f"{stopped} {_KEPT}{larger if 'budget' in stopped else ''}.")
    return DONE if stopped is None else UNFINISHED


async def _announce(screen: _Screen, driver: BenchDriver) -> None:
    """What will be done, on which rows, and what it may take."""
    request, plan = driver.request, driver.blueprint
    loaded, sizes = request.benchmark, plan.task.splits.sizes()
    rule = (
        "1:4, as in the paper"
        if request.preset == "paper"
        else f"the preset '{request.preset}' keeps its own splits, not the paper's 1:4"
    )
    parts = ", ".join(f"{size} {split}" for split, size in sizes.items() if size)
    screen.say(
        f"{loaded.benchmark.title}: {len(loaded.dataset.rows)} of {loaded.total} rows (data seed "
        f"{loaded.data_seed}), {parts} ({rule})."
    )
    baselines = ", and IO, CoT and CoT-SC" if request.baselines else ""
    screen.say(
        f"Searches: {len(plan.plan)}, by {plan.specs[0].optimizer} for {plan.specs[0].executor}; "
        f"then each winner{baselines} on the test rows, passes: {request.repeats}."
    )
    ahead = await driver.look_ahead()
    finished = len(plan.plan) - ahead.searches
    if ahead.calls:
        money = "" if not ahead.usd else f", {ahead.usd:,.2f} USD"
        screen.say(
            f"Finished searches: {finished}; what is left may take {ahead.calls:,} calls, "
            f"{ahead.tokens:,} tokens{money} and {ahead.minutes:,.0f} minutes at most. "
            f"{ahead.basis}"
        )
    else:
        screen.say(f"Finished searches: {finished}; nothing is left to do.")
    shortfall = ahead.shortfall(plan.limits)
    for warning in (*plan.warnings, *([shortfall] if shortfall else [])):
        screen.say(f"warning: {warning}")


def _provenance(flags: BenchFlags) -> Provenance:
    path = Path(flags.data or "").expanduser().absolute()
    return Provenance(
        command=tuple(sys.argv[1:]),
        versions=Versions(
            bayesflow_mcp=version("bayesflow-mcp"),
            python=platform.python_version(),
            prompts=load_templates().version,
        ),
        file=path.name,
        digest=file_digest(path),
    )


def _show(console: Console, result: BenchResult, *, as_json: bool) -> None:
    if as_json:
        write_json(result.model_dump(mode="json"))
        return
    for table in all_tables(result):
        _print_table(console, table)


def _print_table(console: Console, table: TextTable) -> None:
    printed = Table(title=table.title, title_justify="left")
    outer = (0, len(table.columns) - 1)
    for number, name in enumerate(table.columns):
        printed.add_column(
            name,
            justify="left" if number == 0 else "right",
            no_wrap=number not in outer,
            overflow="fold",
        )
    for row in table.rows:
        printed.add_row(*map(cell, row))
    console.print(printed)
    for note in table.notes:
        say(console, note)


def _write(result: BenchResult, place: Path) -> list[Path]:
    """Writes the result, and the figure beside it; returns what was written."""
    write_result(result, place)
    written = [place]
    rounds = [
        RoundRewards(one.round, one.minimum, one.mean, one.maximum, one.rows)
        for search in result.of("rounds")
        for one in search.rounds
        if one.complete
    ]
    if rounds and has_matplotlib():
        written.append(place.with_name(f"{place.stem}_rounds.png"))
        title = f"{result.benchmark.title}: reward per round, without refinement"
        try:
            written[-1].write_bytes(draw_rewards(rounds, [], title))
        except OSError as error:
            raise InputError(
                f"'{written[-1]}' cannot be written ({error.strerror}); {place} is there."
            ) from None
    return written


def _compare(first: str, second: str, *, as_json: bool) -> int:
    """Prints what differs between two files."""
    ours, theirs = read_result(first), read_result(second)
    found = compare_results(ours, theirs)
    if as_json:
        listed = [
            {
                "method": one.method,
                "first": one.first,
                "second": one.second,
                "delta": one.gain.delta,
                "low": one.gain.low,
                "high": one.gain.high,
                "interval": one.gain.method,
                "p_value": one.test.p_value,
                "test": one.test.method,
                "wins": one.test.wins,
                "losses": one.test.losses,
                "ties": one.test.ties,
            }
            for one in found
        ]
        write_json(listed)
        return 0
    rows = tuple(
        (
            one.method,
            f"{100 * one.first:.1f}",
            f"{100 * one.second:.1f}",
            f"{100 * one.gain.delta:+.1f}",
            f"{100 * one.gain.low:+.1f} to {100 * one.gain.high:+.1f}",
            f"{one.test.p_value:.3g}",
            f"{one.test.wins}:{one.test.losses}:{one.test.ties}",
        )
        for one in found
    )
    columns = ("method", "A", "B", "A - B", "95 % interval", "p", "won:lost:tied")
    notes = (
        f"A: optimizer {ours.optimizer}, executor {ours.executor}. "
        f"B: optimizer {theirs.optimizer}, executor {theirs.executor}.",
        f"{len(ours.rows['test'])} test rows, each its mean over searches and passes; paired "
        f"interval ({found[0].gain.method}) and exact test ({found[0].test.method}). They speak of "
        "these searches on such rows, not of other seeds.",
    )
    title = f"{ours.benchmark.title}: A against B, row by row"
    _print_table(open_console(), TextTable(title, columns, rows, notes))
    return 0


def _numbers(text: str | None) -> tuple[int, ...]:
    """Whole numbers with commas between."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(f"--ablation takes numbers such as 5,10,15, not '{text}'.") from None

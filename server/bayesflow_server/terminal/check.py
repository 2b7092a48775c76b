"""`bayesflow-mcp check`: a task or a data file looked at before anything is spent."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bayesflow_server.app import Application
from bayesflow_server.evaluation.example import SPLITS, Row, value_text
from bayesflow_server.evaluation.gold import GoldReport, Tried
from bayesflow_server.runs.check import NO_INSTRUCTIONS, TaskCheck, TaskChecker
from bayesflow_server.runs.estimate import Amount, Estimate
from bayesflow_server.runs.judge_agreement import Grading, JudgeAgreement
from bayesflow_server.settings import Settings
from bayesflow_server.terminal.exit_codes import DONE, UNFINISHED
from bayesflow_server.terminal.request import RunArguments, asked_task, draft_of
from bayesflow_server.terminal.screen import open_console, printable, say, write_json
from bayesflow_server.terminal.task_toml import require_free, write_task_file

__all__ = ["CheckOutput", "check"]

_SHOWN_ROWS: Final = 2
_INPUT: Final = 300
_ANSWER: Final = 120


@dataclass(frozen=True)
class CheckOutput:
    """What becomes of a check.

    Attributes:
        judge_agreement: Ask the judge about answers that are known; spends.
        json: JSON on stdout in place of tables.
        write: A task.toml to write, or None.
    """

    judge_agreement: bool = False
    json: bool = False
    write: Path | None = None


def check(settings: Settings, arguments: RunArguments, output: CheckOutput) -> int:
    """Shows what was found; 0 if a run may start, 1 if something stands in its way."""
    asked = asked_task(arguments)
    draft = draft_of(arguments, asked, judge_agreement=output.judge_agreement)
    if output.write is not None:
        require_free(output.write)

    async def work() -> TaskCheck:
        async with Application(settings) as application:
            service = await application.runs()
            return await TaskChecker(service.workplace).check(draft)

    found = asyncio.run(work())
    if output.write is not None:
        # With what the flags said of the budget: whoever runs the file means to spend no more.
        budget = None if draft.budget is None else draft.budget.model_dump(exclude_none=True)
        write_task_file(asked.settings.model_copy(update={"budget": budget}), output.write)
    if output.json:
        write_json(_json(found))
    else:
        _print(open_console(), arguments, output, found)
    return DONE if found.ok else UNFINISHED


# --- for scripts ----------------------------------------------------------------------------


def _json(found: TaskCheck) -> dict[str, object]:
    task = found.task
    return {
        "ok": found.ok,
        "problems": found.problems,
        "warnings": found.warnings,
        "guesses": found.guesses,
        "fields": dict(task.fields),
        "splits": task.splits.sizes(),
        "unused": task.splits.unused,
        "rows": [
            {"split": split, "row_id": row.id, "input": row.problem, "target": row.target}
            for split in SPLITS
            for row in task.splits.of(split)[:_SHOWN_ROWS]
        ],
        "scorer": task.scorer.model_dump(mode="json"),
        "scorer_check": None if found.gold is None else _gold_json(found.gold),
        "models": [asdict(model) for model in found.models],
        "estimate": None if found.estimate is None else _estimate_json(found.estimate),
        "judge_agreement": None if found.agreement is None else _agreement_json(found.agreement),
    }


def _gold_json(gold: GoldReport) -> dict[str, object]:
    return {
        **asdict(gold),
        "failures": [tried._asdict() for tried in gold.failures],
        "accepted": [tried._asdict() for tried in gold.accepted],
    }


def _estimate_json(expected: Estimate) -> dict[str, object]:
    return {
        **asdict(expected),
        "parts": [
            {"role": part.role, "model": part.model, **part.amount._asdict()}
            for part in expected.parts
        ],
        "first_round": expected.first_round._asdict(),
    }


def _agreement_json(agreement: JudgeAgreement) -> dict[str, object]:
    return {**asdict(agreement), "spent": agreement.spent._asdict()}


# --- for a person ---------------------------------------------------------------------------


def _print(
    console: Console, arguments: RunArguments, output: CheckOutput, found: TaskCheck
) -> None:
    splits = found.task.splits
    sizes = ", ".join(f"{size} {split}" for split, size in splits.sizes().items() if size)
    unused = f", {splits.unused} unused" if splits.unused else ""
    say(console, f"{arguments.task}: {sizes} rows{unused}")
    fields = ", ".join(f"{ours} = {theirs}" for ours, theirs in found.task.fields.items())
    say(console, f"fields: {printable(fields, _INPUT)}")
    for guess in found.guesses:
        say(console, f"guessed: {printable(guess, _INPUT)}")
    console.print(_rows(found))
    for line in (*_scorer_lines(found), *_agreement_lines(found.agreement)):
        say(console, line)
    if found.estimate is not None:
        console.print(_costs(found.estimate))
        say(console, found.estimate.basis)
    for line in _model_lines(found):
        say(console, line)
    for warning in found.warnings:
        say(console, f"warning: {printable(warning, 2 * _INPUT)}", "yellow")
    for problem in found.problems:
        say(console, f"problem: {printable(problem, 2 * _INPUT)}", "red")
    if output.write is not None:
        say(console, f"wrote {output.write}")
    say(console, _next(arguments, output, found))


def _rows(found: TaskCheck) -> Table:
    title = "Rows as a workflow will see them, and the answer that it will not"
    table = Table(title=title, title_justify="left")
    table.add_column("split", no_wrap=True)
    for name in ("input", "expected"):
        table.add_column(name, overflow="fold", ratio=3 if name == "input" else 1)
    for split in SPLITS:
        for row in found.task.splits.of(split)[:_SHOWN_ROWS]:
            table.add_row(split, Text(printable(row.problem, _INPUT)), Text(_expected(row)))
    return table


def _expected(row: Row) -> str:
    return "" if row.target is None else printable(value_text(row.target), _ANSWER)


def _scorer_lines(found: TaskCheck) -> Iterator[str]:
    scorer = found.task.scorer
    more = scorer.model_dump_json(exclude={"kind"}, exclude_defaults=True)
    said = "" if more == "{}" else f" {printable(more, _INPUT)}"
    yield f"scorer: {scorer.kind}{said}"
    gold = found.gold
    if gold is None:
        return
    if gold.gold_mean is not None:
        yield f"  {gold.rows} expected answers score {gold.gold_mean:.3f} in the mean (1 is right)"
    if gold.wrong_mean is not None:
        yield f"  {gold.wrong_answers} wrong answers score {gold.wrong_mean:.3f} in the mean"
    for tried in gold.failures:
        yield f"  not 1: {_tried(tried)}"
    for tried in gold.accepted:
        yield f"  wrong, but accepted: {_tried(tried)}"


def _tried(tried: Tried) -> str:
    problem = f" ({tried.problem})" if tried.problem else ""
    text = f"{tried.answer!r} of the row {tried.row_id!r} scores {tried.score:.2f}{problem}"
    return printable(text, _INPUT)


def _agreement_lines(agreement: JudgeAgreement | None) -> Iterator[str]:
    if agreement is None:
        return
    for name, grading in (("expected", agreement.expected), ("wrong", agreement.wrong)):
        yield f"  the judge on {grading.answers} {name} answers: {_graded(grading)}"
    spent = agreement.spent
    usd = f", {spent.usd:.4f} USD" if spent.usd else ""
    yield f"  that took {spent.calls} calls ({spent.cached} cached), {spent.tokens} tokens{usd}"
    if agreement.stopped is not None:
        yield f"  it ended early: {printable(agreement.stopped, _INPUT)}"


def _graded(grading: Grading) -> str:
    if grading.mean is None or grading.agree is None:
        return "no grade"
    return f"mean grade {grading.mean:.2f}, {grading.agree:.0%} as they should be"


def _costs(expected: Estimate) -> Table:
    table = Table(title="What a run may take at most", title_justify="left")
    for name in ("", "model", "calls", "tokens", "USD", "minutes"):
        table.add_column(name, justify="left" if name in ("", "model") else "right")
    for part in expected.parts:
        table.add_row(part.role, Text(printable(part.model)), *_figures(part.amount))
    table.add_section()
    whole = Amount(expected.calls, expected.tokens, expected.usd, expected.minutes)
    table.add_row("all", "", *_figures(whole))
    table.add_row("round 1", "", *_figures(expected.first_round))
    return table


def _figures(amount: Amount) -> tuple[str, str, str, str]:
    usd = "unknown" if amount.usd is None else f"{amount.usd:.4f}"
    return f"{amount.calls:,}", f"{amount.tokens:,}", usd, f"{amount.minutes:.1f}"


def _model_lines(found: TaskCheck) -> Iterator[str]:
    ready = [model.spec for model in found.models if model.ready]
    yield f"models ready: {', '.join(ready) or 'none'}"
    for model in found.models:
        if model.why_not is not None:
            yield f"  not {model.spec}: {printable(model.why_not, _INPUT)}"


def _next(arguments: RunArguments, output: CheckOutput, found: TaskCheck) -> str:
    if not found.ok:
        return "Not ok: mend what the problems say, and check again."
    if found.estimate is None:
        return "Ok so far; name the model that the workflows call (--executor) for an estimate."
    if found.task.instructions == NO_INSTRUCTIONS:
        return "Ok so far; say what a workflow is to do: --instructions TEXT."
    if output.write is not None:
        return f"Ok. Go on with: bayesflow-mcp run {output.write}"
    return f"Ok. Go on with: bayesflow-mcp run {arguments.task} and the same flags."

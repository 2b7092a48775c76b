"""A rehearsal: what executions ask of a model, measured before any model is asked.

    drawn workflows and the baseline × a few rows → sandbox → canned answers, counted

Drawn are workflows of the grammar where a grammar writes; what another writer will write is not
known, so only the baseline is rehearsed then. A workflow that fails on a canned answer counts what
it had asked by then. `check.py` and the run service hand the result to `estimate`.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import Workflow
from bayesflow_sandbox.errors import SandboxError
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.llm_call import LLMCall
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.evaluation.example import Row
from bayesflow_server.evaluation.problem_tests import CodeFields, takes_entry_point
from bayesflow_server.evaluation.splits import Splits
from bayesflow_server.runs.assembly import build_grammar
from bayesflow_server.runs.rehearsed import Rehearsal, Use
from bayesflow_server.runs.roles import GRAMMAR
from bayesflow_server.runs.spec import RunSpec

__all__ = ["ANSWER_TOKENS", "CHARACTERS_PER_TOKEN", "rehearse"]

CHARACTERS_PER_TOKEN: Final = 4
ANSWER_TOKENS: Final = 100  # of an answer, unless the call allows fewer
_CANNED: Final = "Let me think about it. The first part gives 4 and the second 3.\nAnswer: 7"
_DRAWN: Final = 12
_ROWS: Final = 3
_AT_ONCE: Final = 4
_LONGEST_SECONDS: Final = 2.0
_LIMITS: Final = Limits(run_seconds=0.5, sleep_seconds=0.0, wall_seconds=1.0)


async def rehearse(spec: RunSpec, splits: Splits, sandbox: Sandbox) -> Rehearsal:
    """Runs a few workflows on a few rows without a model; takes at most two seconds.

    Args:
        spec: Says who writes the workflows, and the baseline.
        splits: The rows.
        sandbox: Where they run.
    """
    rows = _typical(splits.validation)
    baseline = parse_workflow(spec.baseline)
    drawn = _draw(spec, splits)
    stage = _Stage(sandbox, CodeFields.of(spec.scorer, spec.public_tests))
    names = dict.fromkeys([baseline.source, *drawn])
    work = [asyncio.create_task(stage.play(source, row)) for row in rows for source in names]
    try:
        await asyncio.wait(work, timeout=_LONGEST_SECONDS)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    return Rehearsal(
        baseline=stage.mean({baseline.source: 1}),
        drawn=stage.mean(drawn) if drawn else None,
        executions=sum(len(uses) for uses in stage.uses.values()),
    )


def _draw(spec: RunSpec, splits: Splits) -> Counter[str]:
    """Sources that the grammar draws, with how often; empty where none writes."""
    if spec.optimizer != GRAMMAR:
        return Counter()
    grammar = build_grammar(
        spec.grammar,
        spec.instructions,
        spec.answer_format,
        splits.demonstration or splits.validation,
    )
    draws: list[Workflow] = [
        grammar.complete((), spec.seed, "rehearsal", number) for number in range(_DRAWN)
    ]
    return Counter(workflow.source for workflow in draws)


def _typical(rows: Sequence[Row]) -> list[Row]:
    """Three rows, from the middle of each third by length."""
    ordered = sorted(rows, key=lambda row: (len(row.problem), row.id))
    places = {(2 * third + 1) * len(ordered) // (2 * _ROWS) for third in range(_ROWS)}
    return [ordered[place] for place in sorted(places)]


@dataclass
class _Stage:
    """Plays executions, a few at a time, and keeps what each asked for."""

    sandbox: Sandbox
    code: CodeFields | None
    uses: dict[str, list[Use]] = field(default_factory=dict[str, list[Use]])

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def play(self, source: str, row: Row) -> None:
        """One execution; a failure of the workflow is none here."""
        prompter, code, arguments = _Prompter(), self.code, [row.problem]
        if code is not None and takes_entry_point(source):
            arguments.append(code.function(row))
        tests = None if code is None else code.public_tests(row)
        async with self._slots:
            try:
                await self.sandbox.run_workflow(
                    source, arguments, prompter, _LIMITS, public_tests=tests
                )
            except SandboxError:
                return  # without a working sandbox nothing is measured; the run will say why
        self.uses.setdefault(source, []).append(prompter.use)

    def mean(self, weights: dict[str, int]) -> Use | None:
        """The mean over executions of these sources, each as often as it weighs."""
        found = [use for source in weights for use in self.uses.get(source, ()) * weights[source]]
        return Use(*map(fmean, zip(*found, strict=True))) if found else None


class _Prompter:
    """A workflow's host that answers everything alike and counts what it is asked."""

    def __init__(self) -> None:
        self.use = Use(0, 0, 0)

    async def call_llm(self, call: LLMCall, /) -> list[str]:
        """As many canned texts as are asked for."""
        count = call.num_of_response
        letters = len(call.agent_role) + len(call.instructions)
        letters += sum(len(turn.content) for turn in call.turns)
        answer = min(call.max_tokens or ANSWER_TOKENS, ANSWER_TOKENS)
        self.use = Use(
            self.use.calls + count,
            self.use.input_tokens + count * letters / CHARACTERS_PER_TOKEN,
            self.use.output_tokens + count * answer,
        )
        return [_CANNED] * count

    def get_usage_summary(self) -> dict[str, float]:
        """Nothing has cost anything."""
        return {"total_cost": 0.0}

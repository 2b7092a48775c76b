"""A task looked at before anything is spent: rows, splits, scorer, models, estimate, warnings.

It takes what a run's request takes, an executor or not, and writes nothing. A wrong request is an
error, as for a run; what only fails here and now (a missing key, expected answers that do not score
1) is a problem beside the rest of the report. Only the judge's agreement spends, and only if asked.
The tool `check_task` and `bayesflow-mcp check` are the callers.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

from bayesflow_sandbox.errors import SandboxError
from bayesflow_server.errors import InputError, ModelUnavailableError, ScorerError
from bayesflow_server.evaluation.example import SPLITS, Row
from bayesflow_server.evaluation.gold import GoldReport, try_gold
from bayesflow_server.evaluation.graders import GradingPlace, grader_for
from bayesflow_server.evaluation.judging import needs_judge
from bayesflow_server.evaluation.scorers import ComputedScorer
from bayesflow_server.evaluation.task import Preset, Task
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.models.registry import ModelInfo
from bayesflow_server.runs.assembly import admit_workflow, build_grammar
from bayesflow_server.runs.estimate import Estimate, budget_warnings, estimate
from bayesflow_server.runs.judge_agreement import JudgeAgreement, judge_agreement
from bayesflow_server.runs.options import SamplerOptions, resolve_options
from bayesflow_server.runs.power import size_warnings
from bayesflow_server.runs.rehearsal import rehearse
from bayesflow_server.runs.request import (
    RunRequest,
    check_recycling,
    resolve,
    spec_warnings,
)
from bayesflow_server.runs.roles import CLIENT, GRAMMAR, default_optimizer, preset_of
from bayesflow_server.runs.spec import RunSpec, baseline_source
from bayesflow_server.runs.warm_start import warm_of

if TYPE_CHECKING:
    from bayesflow_server.runs.sitting import Workplace

__all__ = ["NO_INSTRUCTIONS", "TaskCheck", "TaskChecker", "TaskDraft"]

# What a task without instructions is loaded with.
NO_INSTRUCTIONS: Final = "Answer the question."

_TRIED: Final = 500
_TRIED_SLOWLY: Final = 60
_LONGEST_SECONDS: Final = 30.0
_AGREEING: Final = 0.8


@dataclass(frozen=True)
class TaskDraft:
    """What a run's request would be, as far as it is known; see `RunRequest`.

    Attributes:
        task: The checked task.
        executor: Model that the workflows call, or None: no estimate then.
        optimizer: What writes the workflows; None chooses.
        preset: Named settings; None is the one that fits the optimizer.
        options: Changes to the preset.
        budget: What may be spent.
        seed: Seed of every random draw.
        grammar: A grammar's TOML text; None is the built-in one.
        agent: Somebody is there who can answer proposals.
        judge_agreement: Ask the judge about answers that are known; spends.
    """

    task: Task
    executor: str | None = None
    optimizer: str | None = None
    preset: Preset | None = None
    options: SamplerOptions | None = None
    budget: BudgetLimits | None = None
    seed: int = 0
    grammar: str | None = None
    agent: bool = True
    judge_agreement: bool = False

    def request(self, executor: str, name: str | None = None) -> RunRequest:
        """The run that this would be with an executor."""
        return RunRequest(
            task=self.task,
            executor=executor,
            optimizer=self.optimizer,
            preset=self.preset,
            options=self.options,
            budget=self.budget,
            seed=self.seed,
            name=name,
            grammar=self.grammar,
            agent=self.agent,
        )


@dataclass(frozen=True)
class TaskCheck:
    """What was found.

    Attributes:
        task: The checked task.
        spec: What a run would do, or None without an executor that can be used.
        models: Models worth offering, ready or not.
        gold: What the scorer makes of answers that are known; None if it was not tried.
        estimate: What a run may take; None without `spec`.
        agreement: What the judge made of answers that are known, if it was asked.
        warnings: What is odd but allowed, a sentence each.
        problems: What keeps a run from starting or from being scored well, a sentence each.
    """

    task: Task
    spec: RunSpec | None
    models: tuple[ModelInfo, ...]
    gold: GoldReport | None
    estimate: Estimate | None
    agreement: JudgeAgreement | None
    warnings: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing stands in a run's way."""
        return not self.problems

    @property
    def guesses(self) -> tuple[str, ...]:
        """What was guessed, a sentence each."""
        return self.task.guesses if self.spec is None else self.spec.guesses


@dataclass(frozen=True)
class TaskChecker:
    """Checks tasks.

    Attributes:
        workplace: Models, gateway and sandbox.
    """

    workplace: "Workplace"

    async def check(self, draft: TaskDraft) -> TaskCheck:
        """Looks at everything that can be known before a run.

        Raises:
            InputError: The request is wrong.
            ModelUnavailableError: The judge is to be asked and cannot be used here.
        """
        task = draft.task
        judge = _judge_to_ask(draft)
        problems: list[str] = []
        spec = await self._resolved(draft, problems)
        gold = await self._gold(task, problems)
        expected = None if spec is None else await self._estimate(spec, task)
        agreement = None
        if judge is not None and needs_judge(task.scorer):
            agreement = await judge_agreement(
                self.workplace, task.scorer, judge, _rows(task), draft.budget
            )
        if gold is not None:
            problems.extend(_gold_problems(gold))
        return TaskCheck(
            task=task,
            spec=spec,
            models=tuple(await self.workplace.models.offered()),
            gold=gold,
            estimate=expected,
            agreement=agreement,
            warnings=(*_warnings(task, spec, expected, gold), *_judge_warnings(agreement)),
            problems=tuple(problems),
        )

    async def _resolved(self, draft: TaskDraft, problems: list[str]) -> RunSpec | None:
        """The specification; a model that cannot be used now is a problem, not an error."""
        try:
            warm = await warm_of(draft.options, draft.task, self.workplace.store)
            if draft.executor is None:
                self._check_without_executor(draft)
                return None
            request = draft.request(draft.executor)
            return resolve(request, self.workplace.models, self.workplace.gateway.prices, warm)
        except ModelUnavailableError as error:
            problems.append(str(error))
            return None

    def _check_without_executor(self, draft: TaskDraft) -> None:
        """As much of `resolve` as can be done."""
        task, models = draft.task, self.workplace.models
        optimizer = draft.optimizer or default_optimizer(
            models, grammar=draft.grammar is not None, agent=draft.agent
        )
        check_recycling(draft.options or SamplerOptions(), optimizer)
        resolve_options(preset_of(optimizer, draft.preset), draft.options)
        admit_workflow(baseline_source(task), exec_code=task.public_tests is not None)
        if optimizer == GRAMMAR:
            shown = task.splits.demonstration or task.splits.validation
            build_grammar(draft.grammar, task.instructions, task.answer_format, shown)
        elif optimizer != CLIENT:
            models.require(optimizer)

    async def _gold(self, task: Task, problems: list[str]) -> GoldReport | None:
        """What the scorer makes of known answers; a judge is not asked, for it would be paid."""
        scorer = task.scorer
        if needs_judge(scorer):
            return None
        grader = grader_for(scorer, GradingPlace(self.workplace.sandbox, self.workplace.scoring))
        most = _TRIED if isinstance(scorer, ComputedScorer) else _TRIED_SLOWLY
        rows = _rows(task)
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                return await try_gold(scorer, rows, grader, most=most)
        except TimeoutError:
            problems.append(
                f"The scorer '{scorer.kind}' took longer than {_LONGEST_SECONDS:.0f} seconds for "
                f"the expected answers of {min(most, len(rows))} rows and some wrong ones: make it "
                "quicker, for a run would wait for it each time."
            )
        except (ScorerError, SandboxError) as error:
            problems.append(str(error))
        return None

    async def _estimate(self, spec: RunSpec, task: Task) -> Estimate:
        rehearsal = await rehearse(spec, task.splits, self.workplace.sandbox)
        prices = self.workplace.gateway.prices
        return estimate(spec, task.splits.sizes(), prices, rehearsal)


def _judge_to_ask(draft: TaskDraft) -> str | None:
    """The judge whose agreement is wanted, or None."""
    if not draft.judge_agreement:
        return None
    if not needs_judge(draft.task.scorer):
        raise InputError(
            f"`judge_agreement` asks the judge, and the scorer is '{draft.task.scorer.kind}'; "
            "leave it out."
        )
    judge = draft.options.judge if draft.options else None
    if judge is None:
        raise InputError(
            "The judge scorer needs a model to grade with; name it in `options.judge`."
        )
    if all(row.target is None for row in _rows(draft.task)):
        raise InputError(
            "`judge_agreement` needs rows with expected answers, and none has one; leave it out."
        )
    return judge


def _rows(task: Task) -> list[Row]:
    """All rows that are in a split; validation before test."""
    return list(chain.from_iterable(task.splits.of(split) for split in SPLITS))


def _gold_problems(gold: GoldReport) -> Iterator[str]:
    if gold.failed:
        first = gold.failures[0]
        said = f", of the first: {first.problem}" if first.problem else ""
        yield (
            f"{gold.failed} of {gold.rows} expected answers do not score 1 against themselves"
            f"{said}; so no workflow could be right on every row: correct these rows or the "
            "scorer, or use another scorer."
        )


def _judge_warnings(agreement: JudgeAgreement | None) -> Iterator[str]:
    """What is said of a judge that does not tell right answers from wrong ones."""
    if agreement is None:
        return
    for name, grading, side in (
        ("expected", agreement.expected, "0.5 or more"),
        ("wrong", agreement.wrong, "less than 0.5"),
    ):
        if grading.agree is not None and grading.agree < _AGREEING:
            yield (
                f"The judge gives only {grading.agree:.0%} of {grading.answers} {name} answers "
                f"{side}: say more exactly in the rubric what is right, or use another judge."
            )


def _warnings(
    task: Task, spec: RunSpec | None, expected: Estimate | None, gold: GoldReport | None
) -> Iterator[str]:
    if task.instructions == NO_INSTRUCTIONS:
        yield "There are no `instructions`: a run needs a sentence on what a workflow is to do."
    yield from task.warnings
    yield from size_warnings(task.splits.sizes())
    if gold is not None and gold.accepted and gold.wrong_mean is not None:
        yield (
            "Some wrong answers (another row's expected one, or none at all) score 0.5 or more, "
            f"and {gold.wrong_mean:.2g} in the mean: the scorer may be too lenient."
        )
    if spec is not None and expected is not None:
        yield from spec_warnings(spec)
        yield from budget_warnings(spec.budget, expected)

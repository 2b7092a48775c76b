"""The tool that looks at a task before anything is spent."""

import asyncio
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field, JsonValue, WithJsonSchema

from bayesflow_server.evaluation.example import SPLITS, Split
from bayesflow_server.evaluation.task import Preset, Task, load_task
from bayesflow_server.excerpt import ERROR, TITLE, excerpt
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.interface.arguments import EXAMPLES, Examples, ScorerArgument
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.paging import first_that_fit, shortened, texts_that_fit
from bayesflow_server.interface.progress import Stages, progress_of
from bayesflow_server.interface.tool import make_tool
from bayesflow_server.runs.options import SamplerOptions

if TYPE_CHECKING:
    from bayesflow_server.evaluation.gold import GoldReport, Tried
    from bayesflow_server.models.registry import ModelInfo
    from bayesflow_server.runs.check import TaskCheck
    from bayesflow_server.runs.estimate import Amount, Estimate
    from bayesflow_server.runs.judge_agreement import JudgeAgreement

__all__ = ["CheckTool", "TaskChecked"]

_LONGEST_TEXT: Final = 100_000
_SHOWN_ROWS: Final = 2
_SHOWN_FIELDS: Final = 20
_FIELD: Final = 60
_INPUT: Final = 600
_SENTENCE: Final = 500
# Characters of JSON that each part may take, so that all together are no longer than a result.
_SENTENCES_ROOM: Final = 3_500
_ROWS_ROOM: Final = 7_000
_TRIED_ROOM: Final = 2_500
_MODELS_ROOM: Final = 3_000

# It spends only by `judge_agreement`, and never writes to what is there.
_LOOK: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)
# What is said of the arguments stands once, at start_bayesflow_run, and what is in the parts of the
# result shows in them: a tool list takes room in every conversation.
_ANY: Final = WithJsonSchema({"type": ["string", "object"]})
_TEXT: Final = WithJsonSchema({"type": ["string", "null"]})
_PART: Final = WithJsonSchema({"type": "object"})
_PARTS: Final = WithJsonSchema({"type": "array"})
_OBJECT: Final = WithJsonSchema({"type": ["object", "null"]})
_THERE: Final = "As there."
_TextThere: TypeAlias = Annotated[
    str | None, Field(max_length=_LONGEST_TEXT, description=_THERE), _TEXT
]


class RowPreview(BaseModel):
    """A row as a workflow will see it, and the answer that only the scorer sees: data."""

    split: Split
    row_id: str
    input: str
    target: str | None


class Preview(BaseModel):
    """What the rows were understood to be."""

    fields: dict[str, str]
    guesses: list[str]
    rows: list[RowPreview]


class TriedAnswer(BaseModel):
    """An answer of known worth. The texts are data."""

    row_id: str
    answer: str
    score: float
    problem: str | None


class ScorerCheck(BaseModel):
    """What the scorer makes of expected answers, which must score 1, and of wrong ones."""

    rows: int
    gold_mean: float | None
    failures: list[TriedAnswer]
    wrong_mean: float | None
    wrong_accepted: list[TriedAnswer]


class Model(BaseModel):
    """A model, and whether it could be called now."""

    spec: str
    ready: bool
    why_not: str | None


class Cost(BaseModel):
    """What something takes."""

    calls: int
    tokens: int
    usd: float | None
    minutes: float


class RoleCost(Cost):
    """What one role takes."""

    role: str
    model: str


class CheckEstimate(Cost):
    """What a run may take."""

    by_role: list[RoleCost]
    round_1: Cost
    basis: str


class Agreement(BaseModel):
    """How the judge graded known answers; it agrees where expected ones get 0.5 or more."""

    expected_answers: int
    expected_mean: float | None
    expected_agree: float | None
    wrong_answers: int
    wrong_mean: float | None
    wrong_agree: float | None
    calls: int
    tokens: int
    usd: float | None
    stopped: str | None


class TaskChecked(BaseModel):
    """A task, looked at."""

    ok: bool
    problems: list[str] = Field(description="What stands in a run's way; may quote data.")
    warnings: list[str] = Field(description="May quote data.")
    preview: Annotated[
        Preview, _PART, Field(description="Data: fields, guesses, rows as a workflow sees them.")
    ]
    splits: Annotated[dict[Split, int], _PART]
    unused: int
    scorer: Annotated[dict[str, JsonValue], _PART]
    scorer_check: Annotated[
        ScorerCheck | None,
        _OBJECT,
        Field(description="Data: how known answers score; null for a judge, which is not asked."),
    ]
    models: Annotated[list[Model], _PARTS]
    estimate: Annotated[
        CheckEstimate | None, _OBJECT, Field(description="Null without a usable executor.")
    ]
    judge_agreement: Annotated[
        Agreement | None, _OBJECT, Field(description="Share of grades on the right side of 0.5.")
    ]
    next: str


class CheckTool:
    """Checks tasks."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def tools(self) -> list[Tool]:
        """What the server registers."""
        return [make_tool(self.check_task, "Check a task", _LOOK)]

    async def check_task(
        self,
        context: Context[Any, Any],
        examples: Annotated[Examples, EXAMPLES],
        instructions: _TextThere = None,
        executor: _TextThere = None,
        scorer: Annotated[ScorerArgument, _ANY, Field(description=_THERE)] = "auto",
        optimizer: _TextThere = None,
        baseline: _TextThere = None,
        grammar: _TextThere = None,
        answer_format: _TextThere = None,
        public_tests: _TextThere = None,
        fields: Annotated[dict[str, str] | None, _OBJECT, Field(description=_THERE)] = None,
        preset: Annotated[Preset | None, _TEXT, Field(description=_THERE)] = None,
        budget: Annotated[BudgetLimits | None, _OBJECT, Field(description=_THERE)] = None,
        options: Annotated[SamplerOptions | None, _OBJECT, Field(description=_THERE)] = None,
        seed: Annotated[int, Field(description=_THERE)] = 0,
        judge_agreement: Annotated[
            bool,
            Field(
                description="Asks the judge scorer's model to grade at most 20 known answers; "
                "this alone spends (`budget`, or 200 calls and 0.25 USD)."
            ),
        ] = False,
    ) -> TaskChecked:
        """Looks at a task before a run and spends nothing: takes start_bayesflow_run's arguments.

        Use it first, with `examples` alone or with all you have. Shows how rows, fields and scorer
        were understood, whether expected answers score 1 and wrong ones do not, which models are
        ready, what a run would take, and what is too small. Show the user preview and estimate.
        """
        from bayesflow_server.runs.check import NO_INSTRUCTIONS, TaskChecker, TaskDraft

        stages = Stages("reading the examples", "trying scorer, models and a few workflows")
        async with progress_of(context, stages.look):
            # In a thread: a large file takes a second, and other calls must not wait for it.
            task = await asyncio.to_thread(
                load_task,
                instructions=NO_INSTRUCTIONS if instructions is None else instructions,
                examples=examples,
                scorer=scorer,
                baseline=baseline,
                fields=fields,
                answer_format=answer_format,
                public_tests=public_tests,
                preset=preset,
                splits=options.splits if options else None,
                seed=seed,
            )
            stages.next()
            service = await self._backend.runs()
            checked = await TaskChecker(service.workplace).check(
                TaskDraft(
                    task=task,
                    executor=executor,
                    optimizer=optimizer,
                    preset=preset,
                    options=options,
                    budget=budget,
                    seed=seed,
                    grammar=grammar,
                    judge_agreement=judge_agreement,
                )
            )
        return _checked(checked)


def _checked(found: "TaskCheck") -> TaskChecked:
    task = found.task
    scorer = cast("dict[str, JsonValue]", json.loads(task.scorer.model_dump_json()))
    return TaskChecked(
        ok=found.ok,
        problems=_sentences(found.problems),
        warnings=_sentences(found.warnings),
        preview=_preview(task, found.guesses),
        splits=task.splits.sizes(),
        unused=task.splits.unused,
        scorer=shortened(scorer),
        scorer_check=None if found.gold is None else _scorer_check(found.gold),
        models=first_that_fit(map(_model, found.models), _MODELS_ROOM),
        estimate=None if found.estimate is None else _estimate(found.estimate),
        judge_agreement=None if found.agreement is None else _agreement(found.agreement),
        next=_next(found),
    )


def _preview(task: Task, guesses: tuple[str, ...]) -> Preview:
    return Preview(
        fields={
            excerpt(ours, _FIELD): excerpt(theirs, _FIELD)
            for ours, theirs in list(task.fields.items())[:_SHOWN_FIELDS]
        },
        guesses=_sentences(guesses),
        rows=sorted(
            first_that_fit(_rows(task), _ROWS_ROOM), key=lambda row: SPLITS.index(row.split)
        ),
    )


def _rows(task: Task) -> Iterator[RowPreview]:
    """The first rows of each split, one of each before the second of any: they may not all fit."""
    for place in range(_SHOWN_ROWS):
        for split in SPLITS:
            for row in task.splits.of(split)[place : place + 1]:
                yield RowPreview(
                    split=split,
                    row_id=excerpt(row.id, TITLE),
                    input=excerpt(row.problem, _INPUT),
                    target=None if row.target is None else excerpt(_text(row.target), ERROR),
                )


def _text(target: JsonValue) -> str:
    return target if isinstance(target, str) else json.dumps(target, ensure_ascii=False)


def _sentences(texts: tuple[str, ...]) -> list[str]:
    return texts_that_fit(texts, _SENTENCE, _SENTENCES_ROOM)


def _scorer_check(gold: "GoldReport") -> ScorerCheck:
    return ScorerCheck(
        rows=gold.rows,
        gold_mean=gold.gold_mean,
        failures=first_that_fit(map(_tried, gold.failures), _TRIED_ROOM),
        wrong_mean=gold.wrong_mean,
        wrong_accepted=first_that_fit(map(_tried, gold.accepted), _TRIED_ROOM),
    )


def _tried(tried: "Tried") -> TriedAnswer:
    return TriedAnswer(
        row_id=excerpt(tried.row_id, TITLE),
        answer=excerpt(tried.answer, TITLE),
        score=tried.score,
        problem=None if tried.problem is None else excerpt(tried.problem, ERROR),
    )


def _model(model: "ModelInfo") -> Model:
    why_not = None if model.why_not is None else excerpt(model.why_not, ERROR)
    return Model(spec=excerpt(model.spec, TITLE), ready=model.ready, why_not=why_not)


def _estimate(expected: "Estimate") -> CheckEstimate:
    return CheckEstimate(
        calls=expected.calls,
        tokens=expected.tokens,
        usd=expected.usd,
        minutes=expected.minutes,
        by_role=[
            RoleCost(role=part.role, model=part.model, **_cost(part.amount).model_dump())
            for part in expected.parts
        ],
        round_1=_cost(expected.first_round),
        basis=expected.basis,
    )


def _cost(amount: "Amount") -> Cost:
    return Cost(
        calls=amount.calls,
        tokens=amount.tokens,
        usd=None if amount.usd is None else round(amount.usd, 4),
        minutes=round(amount.minutes, 1),
    )


def _agreement(found: "JudgeAgreement") -> Agreement:
    return Agreement(
        expected_answers=found.expected.answers,
        expected_mean=found.expected.mean,
        expected_agree=found.expected.agree,
        wrong_answers=found.wrong.answers,
        wrong_mean=found.wrong.mean,
        wrong_agree=found.wrong.agree,
        calls=found.spent.calls,
        tokens=found.spent.tokens,
        usd=found.spent.usd,
        stopped=None if found.stopped is None else excerpt(found.stopped, ERROR),
    )


def _next(found: "TaskCheck") -> str:
    if not found.ok:
        return "Tell the user what `problems` says, mend it, and call check_task again."
    if found.estimate is None:
        return (
            "Ask the user which ready model of `models` the workflows are to call, and call "
            "check_task again with it as `executor`."
        )
    return (
        "Show the user preview, warnings and estimate; if they agree, call start_bayesflow_run "
        "with the same arguments (without judge_agreement)."
    )

"""The tool that starts a run."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any, Final

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import InputRequiredResult
from pydantic import BaseModel, Field, JsonValue

from bayesflow_server.evaluation.example import Split
from bayesflow_server.evaluation.task import Preset, load_task
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.interface.arguments import (
    EXAMPLES,
    SPEND,
    Confirmed,
    Examples,
    ScorerArgument,
)
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.confirmation import ask_user, ticket_of
from bayesflow_server.interface.paging import shortened, texts_that_fit
from bayesflow_server.interface.progress import Stages, progress_of
from bayesflow_server.interface.run_state import Status
from bayesflow_server.interface.stakes import search_stake
from bayesflow_server.interface.tool import make_tool
from bayesflow_server.runs.options import SamplerOptions
from bayesflow_server.runs.roles import CLIENT

if TYPE_CHECKING:
    from bayesflow_server.runs.service import RunService
    from bayesflow_server.runs.spec import RunSpec
    from bayesflow_server.runs.starting import StartedRun

__all__ = ["RunStarted", "StartTool", "run_started"]

_LONGEST_TEXT: Final = 100_000
# Of a warning or a guess, and of all of them as JSON.
_SENTENCE: Final = 500
_ROOM: Final = 5_000


class Models(BaseModel):
    """Which model does what."""

    executor: str
    optimizer: str
    refiner: str
    judge: str | None
    tiers: dict[str, str]


class Resolved(BaseModel):
    """What the request was understood to mean."""

    models: Models
    scorer: dict[str, JsonValue]
    splits: dict[Split, int] = Field(description="Rows of each split.")
    options: dict[str, JsonValue]
    budget: BudgetLimits
    guesses: list[str] = Field(description="What was guessed, a sentence each: check them.")


class EstimateState(BaseModel):
    """About what the run may take at most; check_task tells more."""

    calls: int
    tokens: int
    usd: float | None = Field(description="Null where a price is unknown.")
    minutes: float


class RunStarted(BaseModel):
    """A run that has begun."""

    run_id: str
    status: Status
    resolved: Resolved
    estimate: EstimateState
    warnings: list[str]
    next: str


class StartTool:
    """Starts runs."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def tools(self) -> list[Tool]:
        """What the server registers."""
        return [make_tool(self.start_bayesflow_run, "Start a BayesFlow run", SPEND)]

    async def start_bayesflow_run(
        self,
        context: Context[Any, Any],
        instructions: Annotated[
            str,
            Field(max_length=_LONGEST_TEXT, description="What a workflow is to do, in words."),
        ],
        executor: Annotated[
            str,
            Field(
                description="Model the workflows call: local:smollm2, anthropic:MODEL, "
                "openai:MODEL or NAME:MODEL of an endpoint of the server, which has the keys; a "
                "wrong name is answered with the right ones."
            ),
        ],
        examples: Annotated[Examples, EXAMPLES],
        scorer: Annotated[
            ScorerArgument,
            Field(description="auto guesses and says so; or a kind's name, or an object."),
        ] = "auto",
        optimizer: Annotated[
            str | None,
            Field(
                description="What writes workflows: a model, 'grammar' (no LLM) or 'client' "
                "(you, by next_proposals). null: grammar if one is given, else Sonnet if the "
                "server has its key, else client."
            ),
        ] = None,
        baseline: Annotated[
            str | None,
            Field(
                max_length=_LONGEST_TEXT,
                description="The user's present prompt or workflow, to beat; null is the "
                "instructions zero-shot.",
            ),
        ] = None,
        grammar: Annotated[
            str | None,
            Field(
                max_length=_LONGEST_TEXT,
                description="TOML text of the steps a workflow may have; null is the built-in "
                "grammar.",
            ),
        ] = None,
        answer_format: Annotated[
            str | None,
            Field(max_length=_LONGEST_TEXT, description="How an answer must look, in words."),
        ] = None,
        fields: Annotated[
            dict[str, str] | None,
            Field(
                description="Our name (input, target, id, split, group) to the file's, or guessed."
            ),
        ] = None,
        public_tests: Annotated[
            str | None,
            Field(
                max_length=200,
                description="Coding: field with the tests that a workflow may run (exec_code).",
            ),
        ] = None,
        preset: Annotated[
            Preset | None,
            Field(
                description="quick: 5 prefixes, 3 steps; balanced: 10 and 5; paper: as published, "
                "costly; client: 4 and 3. null: client if the optimizer is, else balanced."
            ),
        ] = None,
        budget: Annotated[
            BudgetLimits | None,
            Field(
                description="Hard limits; null is 2 USD where every price is known, else 20,000 "
                "calls. Spent, the run pauses."
            ),
        ] = None,
        options: Annotated[
            SamplerOptions | None, Field(description="Changes to the preset.")
        ] = None,
        seed: Annotated[int, Field(description="Same seed and answers, same run.")] = 0,
        name: Annotated[str | None, Field(max_length=200, description="For lists.")] = None,
        idempotency_key: Annotated[
            str | None,
            Field(max_length=200, description="The same key and request give the same run."),
        ] = None,
        confirmed: Confirmed = False,
    ) -> RunStarted | InputRequiredResult:
        """Starts a search for a good workflow in the background and returns at once.

        Use it when the user has a task with examples and expected answers (20 or more; 100 give
        useful intervals). Everything is checked first; a wrong request writes and spends nothing.
        Echoes what was understood and estimates the most it may take: tell the user both. Next:
        as `next` says, get_run or next_proposals until finished, then get_best_workflow.
        """
        from bayesflow_server.runs.preparation import prepare
        from bayesflow_server.runs.request import RunRequest
        from bayesflow_server.runs.starting import known_run, started_run

        stages = Stages("reading the examples", "trying scorer, models and a few workflows")
        async with progress_of(context, stages.look):
            # In a thread: a large file takes a second, and other calls must not wait for it.
            task = await asyncio.to_thread(
                load_task,
                instructions=instructions,
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
            request = RunRequest(
                task=task,
                executor=executor,
                optimizer=optimizer,
                preset=preset,
                options=options,
                budget=budget,
                seed=seed,
                name=name,
                # An answer that is delivered twice begins one run.
                idempotency_key=idempotency_key or ticket_of(context),
                grammar=grammar,
            )
            service = await self._backend.runs()
            known = await known_run(request, service.workplace)
            if known is not None:
                return run_started(await started_run(known, service.workplace), service)
            prepared = await prepare(request, service.workplace)
        asks = await ask_user(
            context,
            search_stake(prepared),
            above=self._backend.confirm_above,
            confirmed=confirmed,
        )
        return asks or run_started(await service.begin(request, prepared), service)


def run_started(started: "StartedRun", service: "RunService") -> RunStarted:
    """A run as its start tells of it."""
    spec, expected, run_id = started.spec, started.estimate, started.record.run_id
    pinned = json.loads(spec.model_dump_json(include={"scorer", "options"}))
    return RunStarted(
        run_id=run_id,
        status=service.status(started.record),
        resolved=Resolved(
            models=Models(
                executor=spec.executor,
                optimizer=spec.optimizer,
                refiner=spec.refiner,
                judge=spec.judge,
                tiers=dict(spec.tiers.items()),
            ),
            scorer=shortened(pinned["scorer"]),
            splits=dict(started.sizes),
            options=pinned["options"],
            budget=spec.budget,
            guesses=texts_that_fit(spec.guesses, _SENTENCE, _ROOM),
        ),
        estimate=EstimateState(
            calls=expected.calls,
            tokens=expected.tokens,
            usd=expected.usd,
            minutes=expected.minutes,
        ),
        warnings=texts_that_fit(started.warnings, _SENTENCE, _ROOM),
        next=_next(run_id, spec),
    )


def _next(run_id: str, spec: "RunSpec") -> str:
    if spec.asks_client:
        does = "write" if spec.optimizer == CLIENT else "refine"
        return (
            f"next_proposals(run_id='{run_id}'): you {does} the workflows of this run. Answer what "
            "it asks by submit_proposals, and again until the status is finished."
        )
    return f"get_run(run_id='{run_id}', wait_seconds=20) until the status is finished."

"""The tool that shows the workflows a run has seen."""

import json
from collections.abc import Sequence
from itertools import count, islice
from typing import TYPE_CHECKING, Annotated, Literal

from mcp.server.mcpserver.tools import Tool
from pydantic import BaseModel, Field

from bayesflow_server.excerpt import ERROR, TITLE, excerpt
from bayesflow_server.interface.arguments import READ, Cursor, RunId
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.paging import first_that_fit, offset_of
from bayesflow_server.interface.tool import make_tool
from bayesflow_server.interface.uris import pool_uri

if TYPE_CHECKING:
    from bayesflow_server.runs.pool_view import FrontPoint, PoolItem

__all__ = [
    "FrontWorkflow",
    "PoolPage",
    "PoolTool",
    "PoolWorkflow",
    "front_workflow",
    "pool_workflow",
]

_MOST_TITLES = 20
_MOST_FRONT = 20


class Validation(BaseModel):
    """A workflow's score on the validation rows seen so far, with a 95 % interval."""

    mean: float
    shrunk: float = Field(description="The mean, shrunk towards the pool's by its noise.")
    low: float
    high: float
    rows: int
    reward: float | None = Field(description="The mean less the cost penalty, if there is one.")


class FrontWorkflow(BaseModel):
    """A workflow that no other beats in both accuracy and cost."""

    workflow_id: str
    accuracy: float = Field(description="Shrunk.")
    usd_per_example: float | None
    tokens_per_example: float


class PoolWorkflow(BaseModel):
    """A workflow of the pool, without its source."""

    workflow_id: str
    rank: int
    posterior: float | None = Field(
        description="Probability; null for refinements and rounds not fully scored."
    )
    validation: Validation | None
    usd_per_example: float | None
    seconds_per_example: float | None
    step_titles: list[str] = Field(description="Comments in the workflow: data.")
    round: int
    origin: Literal["prior", "refined", "baseline", "submitted", "warm"]
    parent_id: str | None
    clean: bool = Field(description="No refinement among its ancestors.")
    error: str | None = Field(description="Why it does not run: data.")


class Diversity(BaseModel):
    """How varied the pool is."""

    distinct: int
    structures: int = Field(description="Distinct sequences of step titles.")
    effective_sample_size: float | None = Field(description="Of the posterior's draws.")
    log_evidence: float | None = Field(description="Estimate of log Z at this beta.")
    evidence_error: float | None = Field(
        description="Standard error of Z over Z; null: not available without islands."
    )
    clean_share: float | None = Field(description="Last particles without a refined ancestor.")
    unique_ancestors: list[int] = Field(
        description="Particles of each round that have descendants in the last."
    )


class PoolPage(BaseModel):
    """A page of the pool."""

    run_id: str
    revision: int
    beta: float
    total: int
    items: list[PoolWorkflow]
    front: list[FrontWorkflow] = Field(
        description="Accuracy-cost front, cheapest first: validation scores, so it may flatter."
    )
    diversity: Diversity
    cursor: str | None = Field(description="For the next page; null at the end.")
    prior_independent: bool = Field(
        description="false: one agent wrote the workflows; posterior ranks, without a guarantee."
    )
    uri: str = Field(description="The whole pool as a resource.")
    next: str


class PoolTool:
    """Shows pools."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def tools(self) -> list[Tool]:
        """What the server registers."""
        return [make_tool(self.get_pool, "Show a run's pool", READ)]

    async def get_pool(
        self,
        run_id: RunId,
        round: Annotated[
            int | None, Field(ge=0, description="Only workflows first seen in this round.")
        ] = None,
        sort: Annotated[
            Literal["posterior", "validation", "cost", "round"],
            Field(
                description="validation: shrunk score; cost: USD or tokens per row, cheapest first."
            ),
        ] = "posterior",
        beta: Annotated[
            float | None,
            Field(gt=0, le=1000, description="Inverse temperature to weigh at; null is the run's."),
        ] = None,
        limit: Annotated[
            int, Field(ge=1, le=50, description="A page may end earlier, to stay readable.")
        ] = 20,
        cursor: Cursor = None,
    ) -> PoolPage:
        """Lists the workflows a run has seen, ranked by posterior probability, score or cost.

        Costs no model call, at any beta, while the run works or after. Validation scores chose
        the winner, so the best of them flatters; get_best_workflow has the honest test score and
        the source. Next: evaluate_workflow(workflow='wf_…', run_id=…) scores one on other rows.
        """
        from bayesflow_server.runs.spec import RunSpec

        start = offset_of(cursor)
        service = await self._backend.runs()
        record = await service.record(run_id)
        pool, view = await service.shown_pool(run_id, beta=beta, sort=sort, round_number=round)
        page = islice(view.items, start, start + limit)
        items = first_that_fit(map(pool_workflow, page, count(start + 1)))
        end = start + len(items)
        posterior = view.posterior
        return PoolPage(
            run_id=run_id,
            revision=record.revision,
            beta=view.beta,
            total=len(view.items),
            items=items,
            front=[front_workflow(point) for point in view.front[:_MOST_FRONT]],
            diversity=Diversity(
                distinct=len(pool.rows),
                structures=view.structures,
                effective_sample_size=posterior.effective_sample_size if posterior else None,
                log_evidence=posterior.log_evidence if posterior else None,
                evidence_error=posterior.relative_error if posterior else None,
                clean_share=view.clean_share,
                unique_ancestors=list(view.lineages),
            ),
            cursor=str(end) if end < len(view.items) else None,
            prior_independent=RunSpec.model_validate_json(record.request).prior_independent,
            uri=pool_uri(run_id),
            next=_next(run_id, items, empty=not pool.rows),
        )


def _next(run_id: str, items: Sequence[PoolWorkflow], *, empty: bool) -> str:
    if empty:
        return f"get_run(run_id='{run_id}'): no round is finished yet, so no workflow is kept."
    if not items:
        return f"get_pool(run_id='{run_id}') begins anew: there is nothing on this page."
    return (
        f"get_best_workflow(run_id='{run_id}') gives the best with its source. evaluate_workflow("
        f"workflow='{items[0].workflow_id}', run_id='{run_id}') scores one on further rows."
    )


def front_workflow(point: "FrontPoint") -> FrontWorkflow:
    """A point of the accuracy-cost front as clients see it."""
    return FrontWorkflow(
        workflow_id=point.workflow_id,
        accuracy=point.accuracy,
        usd_per_example=point.usd,
        tokens_per_example=point.tokens,
    )


def pool_workflow(item: "PoolItem", rank: int) -> PoolWorkflow:
    """A workflow as pages of the pool and its resource show it."""
    entry, summary = item.row.entry, item.row.validation
    validation = None
    if summary is not None and item.shrunk is not None:
        validation = Validation(
            mean=summary.mean,
            shrunk=item.shrunk,
            low=item.low or 0.0,
            high=item.high if item.high is not None else 1.0,
            rows=summary.rows,
            reward=summary.reward,
        )
    cost = None if summary is None else summary.cost_usd
    titles: list[str] = json.loads(item.row.steps)
    error: str | None = json.loads(summary.error) if summary and summary.error else None
    return PoolWorkflow(
        workflow_id=entry.workflow_id,
        rank=rank,
        posterior=item.posterior,
        validation=validation,
        usd_per_example=None if summary is None or cost is None else cost / summary.rows,
        seconds_per_example=None if summary is None else summary.seconds / summary.rows,
        step_titles=[excerpt(title, TITLE) for title in titles[:_MOST_TITLES]],
        round=entry.round,
        origin=entry.origin,
        parent_id=entry.parent_id,
        clean=entry.clean,
        error=None if error is None else excerpt(error, ERROR),
    )

"""What a run starts with: the best of earlier runs, or workflows that somebody names or sends.

They enter the first round as refined candidates, never as draws of the prior: so they are scored,
edited and may win, and posterior and evidence stay those of the prior.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from bayesflow_server.errors import InputError, NotFoundError
from bayesflow_server.evaluation.task import Task
from bayesflow_server.runs.assembly import admit_workflow
from bayesflow_server.runs.options import SamplerOptions
from bayesflow_server.runs.sources import LONGEST_SOURCE, source_given
from bayesflow_server.store.store import Store

__all__ = ["warm_of", "warm_sources"]

_BEST_OF_A_RUN: Final = 5
_LONGEST_NAME: Final = 200


async def warm_of(options: SamplerOptions | None, task: Task, store: Store) -> tuple[str, ...]:
    """The sources behind a request's `options.warm_start`; none where there are no options."""
    names = () if options is None else options.warm_start or ()
    return await warm_sources(names, store, exec_code=task.public_tests is not None)


async def warm_sources(
    names: Sequence[str], store: Store, *, exec_code: bool = False
) -> tuple[str, ...]:
    """The sources behind `options.warm_start`, each once, in the order they are named.

    Args:
        names: Run ids, workflow ids, sources, or absolute paths of Python files.
        store: Where runs and workflows are kept.
        exec_code: Whether workflows may run public tests.

    Raises:
        InputError: Nothing has that id or is at that path, a run has no scored workflow yet, or a
            workflow cannot be used.
    """
    sources: dict[str, None] = {}
    for name in names:
        for source in await _named(name, store):
            await asyncio.sleep(0)  # a source may be long, and other calls have their turn
            sources.setdefault(_admitted(source, name, exec_code=exec_code))
    return tuple(sources)


async def _named(name: str, store: Store) -> list[str]:
    """The sources that one entry stands for."""
    if len(name) > LONGEST_SOURCE:
        raise InputError(
            f"`options.warm_start` has a source of more than {LONGEST_SOURCE:,} characters; no "
            "workflow is that long."
        )
    if "\n" not in name:
        if name.startswith("run_"):
            return await _best_of(name, store)
        if not name.startswith("wf_") and not name.endswith(".py"):
            raise InputError(
                f"`options.warm_start` has {_shown(name)}, which is neither a run id (run_…), nor "
                "a workflow id (wf_…), nor the path of a .py file, nor a workflow's source."
            )
    try:
        return [await source_given(name, store)]
    except NotFoundError as error:
        raise InputError(f"`options.warm_start`: {error}") from None


async def _best_of(run_id: str, store: Store) -> list[str]:
    """The run's best workflows by shrunk validation score."""
    from bayesflow_server.runs.pool_view import StoredPool, view_pool

    if await store.run(run_id) is None:
        raise InputError(
            f"`options.warm_start` names {_shown(run_id)}, and there is no such run; "
            "list_runs (`bayesflow-mcp runs`) shows those there are."
        )
    pool = StoredPool(await store.pool(run_id), [], validation_rows=1, pool_rounds=True)
    ranked = [
        item.row
        for item in view_pool(pool, sort="validation").items
        if item.shrunk is not None
        and not (item.row.validation and item.row.validation.failed)
        and item.row.entry.origin != "baseline"
    ][:_BEST_OF_A_RUN]
    records = [await store.workflow(row.entry.workflow_id) for row in ranked]
    sources = [record.source for record in records if record is not None]
    if not sources:
        raise InputError(
            f"`options.warm_start` names {run_id}, which has no scored workflow yet; wait for its "
            "first round (get_run), or name another run."
        )
    return sources


def _admitted(source: str, name: str, *, exec_code: bool) -> str:
    """The source, checked as every workflow is."""
    try:
        return admit_workflow(source, exec_code=exec_code).source
    except InputError as error:
        shown = "a source" if "\n" in name else _shown(name)
        raise InputError(f"`options.warm_start` ({shown}): {error}") from None


def _shown(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…")

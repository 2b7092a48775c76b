"""The final answer, chosen so that its headline number is honest (docs/algorithm.md).

The largest of many validation means is biased upward by points, so the search's maximum is never
the answer as it stands: the best few by *shrunk* score are completed to the whole validation split,
the best of those are scored on rows the search never saw (the selection split), and the winner is
the best by the mean over both. It is then measured once on the test split, elsewhere. Rows are not
spent on a workflow whose 90 % interval lies wholly below that of the best.
"""

import asyncio
import statistics
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.growth import scored
from bayesflow_sampler.ports import Reward
from bayesflow_sampler.shrinkage import finite_mean, posterior_spread, reward_variance, shrink
from bayesflow_sampler.types import Evaluation, RowSet, Workflow

__all__ = ["COMPLETED", "RESCORED", "Finalist", "choose", "shrunk_rewards"]

COMPLETED: Final = 10
RESCORED: Final = 5
_Z: Final = statistics.NormalDist().inv_cdf(0.95)


class Finalist(NamedTuple):
    """A workflow that reached the last comparison.

    Attributes:
        workflow: The workflow.
        validation: Its full validation scores.
        shrunk: Its validation mean, shrunk towards the mean of all workflows seen.
        selection: Its scores on the selection split, or None if there is none.
    """

    workflow: Workflow
    validation: Evaluation
    shrunk: float
    selection: Evaluation | None

    @property
    def pooled(self) -> float:
        """What the finalists are ranked by: the mean over validation and selection rows."""
        if self.selection is None:
            return self.shrunk
        return statistics.fmean((*self.validation.scores, *self.selection.scores))


def shrunk_rewards(archive: Archive) -> dict[str, float]:
    """Every workflow's validation mean, shrunk towards the mean of all by its noise."""
    evaluations = [entry.evaluation for entry in archive.entries.values()]
    if not evaluations:
        return {}
    centre = finite_mean([evaluation.mean for evaluation in evaluations])
    variance = reward_variance(evaluations)
    return {
        evaluation.workflow_id: shrink(evaluation.mean, evaluation.noise(), centre, variance)
        for evaluation in evaluations
    }


async def choose(archive: Archive, reward: Reward) -> list[Finalist]:
    """Ranks the finalists, best first. The archive learns their full validation scores.

    Args:
        archive: Every workflow seen, refinements included; at least one.
        reward: Scores the missing rows.
    """
    validation = RowSet("validation", tuple(range(reward.size("validation"))))
    best = _contenders(archive, archive.entries, COMPLETED)
    full = await _score(reward, [archive.entries[name].workflow for name in best], validation)
    for evaluation in full:
        archive.add_evaluation(evaluation)
    shrunk = shrunk_rewards(archive)
    completed = {evaluation.workflow_id: evaluation for evaluation in full}
    names = _contenders(archive, completed, RESCORED)
    workflows = [archive.entries[name].workflow for name in names]
    selection: Sequence[Evaluation | None] = [None] * len(names)
    if rows := reward.size("selection"):
        selection = await _score(reward, workflows, RowSet("selection", tuple(range(rows))))
    finalists = [
        Finalist(workflow, completed[name], shrunk[name], extra)
        for name, workflow, extra in zip(names, workflows, selection, strict=True)
    ]
    return sorted(finalists, key=lambda finalist: -finalist.pooled)


def _contenders(archive: Archive, names: Collection[str], count: int) -> list[str]:
    """The `count` best by shrunk score, best first, without those that are clearly worse."""
    shrunk = shrunk_rewards(archive)
    ranked = sorted(names, key=lambda name: (-shrunk[name], name))[:count]
    variance = reward_variance([entry.evaluation for entry in archive.entries.values()])
    reach = {
        name: _Z * posterior_spread(archive.entries[name].evaluation.noise(), variance)
        for name in ranked
    }
    floor = shrunk[ranked[0]] - reach[ranked[0]]
    return [name for name in ranked if shrunk[name] + reach[name] >= floor]


async def _score(reward: Reward, workflows: Sequence[Workflow], rows: RowSet) -> list[Evaluation]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(scored(reward, workflow, rows)) for workflow in workflows]
    return [task.result() for task in tasks]

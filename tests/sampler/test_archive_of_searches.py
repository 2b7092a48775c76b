"""What the archive keeps of whole searches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import Workflow
from fakes.search_ports import NoJournal, ScriptedRefiner, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy, workflow_of

TOY = make_toy("ab", 3, seed=2)
OPTIONS = SearchOptions(
    particles=4, refinements=0, rounds=3, inverse_temperature=1.0, minibatch=None
)


async def archive_after(options: SearchOptions) -> Archive:
    archive = Archive(1, islands=options.islands)
    for one in await run(search_over(TOY, options, seed=5)):
        archive.add(one)
    return archive


@pytest.mark.parametrize(
    "options",
    [
        replace(OPTIONS, rounds=1, rollouts=2),
        replace(OPTIONS, rollouts=2, islands=2, ess_threshold=1e-6),
    ],
    ids=["a single round", "a trigger that never selects"],
)
async def test_decision_15_another_beta_gives_what_a_search_at_that_beta_gives(
    options: SearchOptions,
) -> None:
    """Where β selects nobody, so that both searches draw the same."""
    cool = await archive_after(options)
    hot = await archive_after(replace(options, inverse_temperature=5.0))

    assert cool.draws == hot.draws
    assert cool.posterior(5.0) == hot.posterior(5.0)
    assert cool.posterior(5.0) != cool.posterior(1.0)


@dataclass(frozen=True)
class Submitted:
    """Hands one workflow in each round."""

    words: Sequence[Workflow]

    async def take(self, number: int) -> Sequence[Workflow]:
        return (self.words[number - 1],)


async def test_decision_15_every_complete_workflow_of_every_round_is_kept_by_content() -> None:
    """Rollouts, edits, what the search was given to begin with and what was handed in on the way.

    Round 1 edits to what was handed in already: that is one entry.
    """
    submitted = [workflow_of(word) for word in ("xxx", "xxy", "xyx")]
    warm, edits = [workflow_of("zzz")], [submitted[0], workflow_of("yyy"), workflow_of("yyx")]
    search = Search(
        GrammarPrior(TOY.grammar, 1),
        TableReward(TOY.rewards),
        ScriptedRefiner(edits),
        NoJournal(),
        replace(OPTIONS, rollouts=2, refinements=1),
        1,
        suggestions=Submitted(submitted),
        warm=warm,
    )
    archive, rollouts = Archive(1), dict[str, None]()
    for one in await run(search):
        archive.add(one)
        for each in one.particles:
            rollouts |= dict.fromkeys(rollout.workflow.workflow_id for rollout in each.rollouts)
    origins = {name: entry.origin for name, entry in archive.entries.items()}

    assert origins == {
        **dict.fromkeys(rollouts, "prior"),
        **{workflow.workflow_id: "refined" for workflow in edits},
        **{workflow.workflow_id: "submitted" for workflow in submitted},
        **{workflow.workflow_id: "warm" for workflow in warm},
    }
    assert {draw.workflow_id for draw in archive.draws} == set(rollouts)
    assert len(archive.draws) == 4 * 2 + 4 * 2 + 4  # one rollout a particle in the last round

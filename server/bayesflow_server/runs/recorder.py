"""Writes a run into the store as it happens: the sampler's journal, rounds, particles and the pool.

Implements the sampler's `Journal`. What an earlier sitting recorded is read once and recalled from
memory, so a resumed run draws nothing again.
"""

import asyncio
import hashlib
import json
from dataclasses import dataclass, field

from bayesflow_sampler.archive import draws_of
from bayesflow_sampler.diagnostics import summarise
from bayesflow_sampler.types import Candidate, DrawKey, Generation, Particle, Workflow
from bayesflow_server.store.records import ParticleRecord, PoolEntry, RoundRecord, WorkflowRecord
from bayesflow_server.store.store import Store

__all__ = ["Recorder", "workflow_record"]


@dataclass
class Recorder:
    """The store as one run sees it.

    Attributes:
        store: Where everything goes.
        run_id: Whose it is.
    """

    store: Store
    run_id: str
    _known: dict[str, str] = field(default_factory=dict[str, str], init=False)

    async def load(self) -> None:
        """Reads what earlier sittings drew."""
        self._known = await self.store.draws(self.run_id)

    async def recall(self, key: DrawKey) -> str | None:
        """The draw an earlier sitting recorded under the key, or None."""
        return self._known.get(key.text)

    async def record(self, key: DrawKey, draw: str) -> None:
        """Keeps a draw; it is on disk when this returns."""
        await self.store.record_draw(self.run_id, key.text, draw)

    async def record_generation(self, generation: Generation) -> None:
        """Keeps a finished round: its pool entries, particles and figures."""
        async with asyncio.TaskGroup() as group:
            for candidate in generation.candidates:
                group.create_task(self.record_candidate(candidate))
        stats = summarise(generation)._asdict() | {
            "draws": [
                [draw.workflow_id, draw.log_share, draw.island] for draw in draws_of(generation)
            ],
            "decisions": [decision._asdict() for decision in generation.decisions],
            "fully_scored": generation.fully_scored,
            "counts": generation.counts,
            "ancestors": generation.ancestors,
            "resampled": generation.resampled,
        }
        await self.store.record_round(
            RoundRecord(self.run_id, generation.round, json.dumps(stats)),
            [
                self._particle(generation.round, index, particle)
                for index, particle in enumerate((*generation.particles, *generation.injected))
            ],
        )

    async def record_candidate(self, candidate: Candidate) -> None:
        """Keeps a complete workflow and how it came into the pool."""
        entry = PoolEntry(
            run_id=self.run_id,
            workflow_id=candidate.workflow.workflow_id,
            round=candidate.round,
            origin=candidate.origin,
            parent_id=candidate.parent_id,
            clean=candidate.clean,
        )
        await self.store.add_to_pool(workflow_record(candidate.workflow), entry)

    def _particle(self, number: int, index: int, particle: Particle) -> ParticleRecord:
        prefix = hashlib.blake2b(particle.prefix.source.encode(), digest_size=8).hexdigest()
        return ParticleRecord(
            run_id=self.run_id,
            round=number,
            index=index,
            workflow_id=particle.rollouts[0].workflow.workflow_id,
            prefix_id=prefix,
            steps=len(particle.prefix),
            log_weight=particle.log_weight,
            score=particle.score,
            ancestor=particle.ancestor if particle.ancestor >= 0 else None,
            clean=particle.clean,
        )


def workflow_record(workflow: Workflow) -> WorkflowRecord:
    """The workflow as the store keeps it."""
    titles = [step.title for step in workflow.steps]
    return WorkflowRecord(workflow.workflow_id, workflow.source, json.dumps(titles))

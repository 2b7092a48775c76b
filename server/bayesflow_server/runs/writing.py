"""What became of the writing in a run: draws and refinements that came to nothing, for its notes.

Such a draw is scored as a workflow that fails, such a refinement costs nothing to score; without a
word on them, a model that never writes anything usable would look like a hard task.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bayesflow_sampler.prior import is_unusable
from bayesflow_sampler.types import Generation

__all__ = ["Writing"]


@dataclass
class Writing:
    """Counts over the rounds of one sitting, those that it repeats included.

    Attributes:
        draws: What was drawn from the prior.
        unusable: Draws without a usable answer.
        refinements: Edits that were asked for.
        vain: Refinements that gave back the workflow they were to edit.
    """

    draws: int = 0
    unusable: int = 0
    refinements: int = 0
    vain: int = 0

    def add(self, generation: Generation) -> None:
        """Takes in one round."""
        # A terminal particle carries an earlier draw along.
        drawn = [
            rollout.workflow
            for particle in generation.particles
            for rollout in particle.rollouts
            if rollout.round == generation.round and rollout.origin == "prior"
        ]
        edits = [edit for edit in generation.refinements if edit.origin == "refined"]
        self.draws += len(drawn)
        self.unusable += sum(is_unusable(workflow) for workflow in drawn)
        self.refinements += len(edits)
        self.vain += sum(edit.workflow.workflow_id == edit.parent_id for edit in edits)

    def sentences(self) -> Iterator[str]:
        """What is worth a note, a sentence each."""
        if self.unusable:
            yield (
                f"{self.unusable} of {self.draws} draws of the optimizer gave no workflow that "
                "runs, also after repairs; each counts as a workflow that fails."
            )
        if self.vain:
            yield (
                f"{self.vain} of {self.refinements} refinements changed nothing: what the refiner "
                "wrote could not be used, or was the workflow it was shown."
            )

"""The refiner of paper §5 with an LLM: pick a workflow, criticise it, make one consequential edit.

1. pick:     one workflow of the pool (two for `evolutionary`) by the search operator;
2. critique: the textual gradient, from at most three of the problems where it did worst;
3. edit:     one edit in the step format, checked and repaired like a draw of the prior.

An edit that is known already is asked again at most twice, with the known ones shown; then the last
one stands. If none can be used, the parent itself is given back, which costs nothing to score: the
same as the grammar's refiner does where there is no edit.

A draw without a usable answer has nothing to criticise or to edit, and what it says may quote data:
it is no parent while there is another, and if there is none a whole workflow is asked for instead.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

from bayesflow_sampler.correction import REPAIRS, Failed, Writer
from bayesflow_sampler.operators import Operator, pick
from bayesflow_sampler.ports import Checker, Edit, Prompt, TextModel
from bayesflow_sampler.prior import is_unusable
from bayesflow_sampler.prompts import (
    PromptTemplates,
    TaskBrief,
    Trace,
    continue_question,
    critique_question,
    edit_question,
    empty_prefix,
)
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, Workflow

__all__ = ["Feedback", "LLMRefiner"]

_WORST: Final = 3
_EDITS: Final = 3


class Feedback(Protocol):
    """What workflows did on single problems of the validation split."""

    async def worst(self, evaluation: Evaluation, limit: int) -> Sequence[Trace]:
        """The `limit` problems of the evaluation with the lowest scores, the worst first.

        No other problems, for what else the workflow has met by now depends on timing. Rows that
        succeeded may be among them.
        """
        ...


@dataclass(frozen=True)
class LLMRefiner:
    """A `Refiner` that lets a model of text edit workflows.

    Attributes:
        model: Criticises and edits.
        checker: Says whether a workflow runs.
        templates: The run's templates.
        brief: The task.
        feedback: Where the critique's examples come from.
        seed: The run's seed.
        operator: Which workflow is edited.
        attempts: How often an edit that does not run may be repaired.
    """

    model: TextModel
    checker: Checker
    templates: PromptTemplates
    brief: TaskBrief
    feedback: Feedback
    seed: int
    operator: Operator = "best"
    attempts: int = REPAIRS

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        """One edit of the workflow that the operator picks; unseen if three tries find one."""
        usable = [candidate for candidate in pool if not is_unusable(candidate.workflow)]
        parents = pick(self.operator, usable or pool, self.seed, *key)
        parent = parents[0].workflow
        critique = await self._criticise(parents[0], key) if usable else ""
        history = usable if self.operator == "linear" else ()
        known = {*seen, parent.workflow_id}
        edited, tried = parent, list[Workflow]()
        for attempt in range(1, _EDITS + 1):
            question = (
                edit_question(self.templates, self.brief, parents, critique, history, tried)
                if usable
                else continue_question(self.templates, self.brief, empty_prefix(self.brief))
            )
            name = f"{key.text}/edit-{attempt}"
            result = await self._writer.write(empty_prefix(self.brief), name, "edit", question)
            if isinstance(result, Failed):
                break
            edited = result
            if edited.workflow_id not in known:
                break
            if edited not in tried:
                tried.append(edited)
        return Edit(edited, parent.workflow_id)

    async def _criticise(self, parent: Candidate, key: DrawKey) -> str:
        """The textual gradient; what a cut or refused answer says is used as far as it goes."""
        traces = await self.feedback.worst(parent.evaluation, _WORST)
        question = critique_question(self.templates, parent, traces[:_WORST])
        prompt = Prompt(f"{key.text}/critique", "critique", self._writer.shared, question)
        return (await self.model.write(prompt)).text.strip()

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self.model, self.checker, self.templates, self.brief, self.attempts)

"""An LLM as the prior p(s): one call writes step t and a rollout (paper §4.1, §5).

`extend` conditions on s_{1:t-1} and yields s_t with the rest, rollout 1; `complete` conditions on
s_{1:t} and yields a further rollout. The prefix is ours in both, whatever the model repeats of it,
also under repair (`correction`): so extend may change steps from t on, complete those behind t.
What p is: the product over t of the repaired step law of call t. It is called by `smc`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from bayesflow_sampler.correction import REPAIRS, Failed, Writer
from bayesflow_sampler.ports import Checker, PromptKind, TextModel
from bayesflow_sampler.prompts import PromptTemplates, TaskBrief, continue_question, empty_prefix
from bayesflow_sampler.types import DrawKey, Step, Workflow

__all__ = ["LLMPrior", "is_unusable", "unusable"]

_REASON_LIMIT: Final = 300
_RAISE: Final = "raise RuntimeError"
_STOP: Final = "Stop, for no answer of the model could be used"


@dataclass(frozen=True)
class LLMPrior:
    """A `Prior` over what a model of text writes.

    Attributes:
        model: Writes.
        checker: Says whether a workflow runs.
        templates: The run's templates.
        brief: The task.
        attempts: How often an answer that does not run may be repaired.
    """

    model: TextModel
    checker: Checker
    templates: PromptTemplates
    brief: TaskBrief
    attempts: int = REPAIRS

    @property
    def root(self) -> Workflow:
        """The empty prefix."""
        return empty_prefix(self.brief)

    @property
    def coherent(self) -> bool:
        """False: a chat's completions follow the law of its later steps only approximately."""
        return False

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        """Step t and a rollout; an `unusable` workflow if no answer runs."""
        return await self._draw(prefix, key, "extend")

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        """A further rollout of s_{1:t}; an `unusable` workflow if no answer runs."""
        return await self._draw(prefix, key, "complete")

    async def _draw(self, prefix: Workflow, key: DrawKey, kind: PromptKind) -> Workflow:
        question = continue_question(self.templates, self.brief, prefix)
        result = await self._writer.write(prefix, key.text, kind, question)
        return unusable(prefix, result.reason) if isinstance(result, Failed) else result

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self.model, self.checker, self.templates, self.brief, self.attempts)


def unusable(prefix: Workflow, reason: str) -> Workflow:
    """The draw that stands for no usable answer: the prefix and a step that raises the reason.

    It is complete, so it is scored, as R = 0, like any workflow that does not run; the reason is
    what its failure says. Equal arguments give equal workflows.
    """
    line = " ".join(reason.split())
    if len(line) > _REASON_LIMIT:
        line = line[: _REASON_LIMIT - 1] + "…"
    # A literal, so nothing of the reason can run.
    body = f"{' ' * prefix.indent}{_RAISE}({line!r})\n"
    return Workflow(prefix.preamble, (*prefix.steps, Step(_STOP, body)), prefix.indent)


def is_unusable(workflow: Workflow) -> bool:
    """Whether the draw stands for no usable answer."""
    if not workflow.steps:
        return False
    last = workflow.steps[-1]
    return last.title == _STOP and last.body.lstrip().startswith(_RAISE)

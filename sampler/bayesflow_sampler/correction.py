"""Asks a model for a workflow until one runs: answer, read, check, repair (paper §5, decision 10).

1. ask; read the answer behind the prefix, which is ours;
2. static policy and smoke run, by the checker;
3. if either fails, ask again with the error log, at most twice. `try` in a repaired answer is
   refused by its syntax tree: to catch an error is not to mend it.

An answer that failed before ends this early, so a model that repeats itself never loops. Called by
the LLM prior (the prefix is s_{1:t}) and the LLM refiner (the prefix is empty).
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bayesflow_sampler.answer import Unreadable, read_answer
from bayesflow_sampler.ports import Checker, Prompt, PromptKind, Reply, TextModel
from bayesflow_sampler.prompts import PromptTemplates, TaskBrief, repair_question, shared_text
from bayesflow_sampler.source import parse_python
from bayesflow_sampler.types import Workflow

__all__ = ["REPAIRS", "Failed", "Writer"]

REPAIRS: Final = 2
_TRY: Final = (
    "It contains a `try` statement. A repair may not use one, in helper functions neither: remove "
    "it and fix what raises the error."
)


class Failed(NamedTuple):
    """An answer that is not a workflow that runs.

    Attributes:
        code: What was written, as far as there was code in it.
        reason: Why it cannot be used.
    """

    code: str
    reason: str


@dataclass(frozen=True)
class Writer:
    """A model that is asked for workflows, and asked again.

    Attributes:
        model: Writes.
        checker: Says whether a workflow runs.
        templates: The run's templates.
        brief: The task.
        repairs: How often an answer may be repaired.
        shared: The part of the prompt that all its questions share.
    """

    model: TextModel
    checker: Checker
    templates: PromptTemplates
    brief: TaskBrief
    repairs: int = REPAIRS
    shared: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shared", shared_text(self.templates, self.brief))

    async def write(
        self, prefix: Workflow, name: str, kind: PromptKind, question: str
    ) -> Workflow | Failed:
        """A complete workflow that begins with `prefix` and runs, or why there is none.

        Args:
            prefix: Steps that stand; a repair cannot change them either.
            name: Names the question within the run; repairs are asked under `name/repair-1`, ….
            kind: What is asked.
            question: The question, without the shared part.
        """
        failures: list[Failed] = []
        prompt = Prompt(name, kind, self.shared, question)
        while True:
            reply = await self.model.write(prompt)
            result = await self._judge(prefix, reply, failures)
            if isinstance(result, Workflow) or result in failures:
                return result
            failures.append(result)
            if len(failures) > self.repairs:
                return result
            again = repair_question(self.templates, question, result.code, result.reason)
            prompt = Prompt(f"{name}/repair-{len(failures)}", "repair", self.shared, again)

    async def _judge(
        self, prefix: Workflow, reply: Reply, failures: Sequence[Failed]
    ) -> Workflow | Failed:
        """The workflow that the reply holds, or what is wrong; known failures are not run again."""
        answer = read_answer(prefix, reply)
        if isinstance(answer, Unreadable):
            return Failed(answer.code or reply.text, answer.explanation)
        code = answer.workflow.source
        for failure in failures:
            if failure.code == code:
                return failure
        if failures and _tries(answer.workflow) > _tries(prefix):
            return Failed(code, _TRY)
        error = await self.checker.check(answer.workflow)
        return answer.workflow if error is None else Failed(code, error)


def _tries(workflow: Workflow) -> int:
    """How many `try` statements its source has, at whatever depth."""
    nodes = ast.walk(parse_python(workflow.source))
    return sum(isinstance(node, ast.Try | ast.TryStar) for node in nodes)

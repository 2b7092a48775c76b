"""Models of text that follow a script, and a checker that knows which workflows run."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bayesflow_sampler.ports import Prompt, Reply
from bayesflow_sampler.types import Workflow
from bayesflow_sandbox.policy import check_workflow
from fakes.search_ports import settle

__all__ = ["PolicyChecker", "ScriptedWriter", "ShuffledWriter", "fenced"]


def fenced(code: str) -> str:
    """Code as a model sends it."""
    return f"Here it is:\n\n```python\n{code}```\n"


@dataclass
class ScriptedWriter:
    """Answers by name, else by a rule; keeps what it was asked.

    The rule sees the prompt alone, so that equal names get equal answers, as the port demands.
    """

    replies: Mapping[str, Reply | str] = field(default_factory=dict[str, Reply | str])
    rule: Callable[[Prompt], str] | None = None
    asked: list[Prompt] = field(default_factory=list[Prompt])

    @property
    def names(self) -> list[str]:
        return [prompt.name for prompt in self.asked]

    async def write(self, prompt: Prompt) -> Reply:
        self.asked.append(prompt)
        if prompt.name in self.replies:
            reply = self.replies[prompt.name]
        else:
            assert self.rule is not None, f"nothing is scripted for {prompt.name}"
            reply = self.rule(prompt)
        return Reply(reply) if isinstance(reply, str) else reply


@dataclass
class ShuffledWriter:
    """A writer whose answers arrive in random order."""

    inner: ScriptedWriter
    order: random.Random

    async def write(self, prompt: Prompt) -> Reply:
        await settle(self.order)
        return await self.inner.write(prompt)


@dataclass
class PolicyChecker:
    """The static policy, and in place of a smoke run a word that makes a workflow fail."""

    fails_on: Mapping[str, str] = field(default_factory=dict[str, str])
    checked: list[str] = field(default_factory=list[str])

    async def check(self, workflow: Workflow) -> str | None:
        source = workflow.source
        self.checked.append(source)
        for word, error in self.fails_on.items():
            if word in source:
                return error
        return check_workflow(source)

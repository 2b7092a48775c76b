"""The door a workflow has to the world: `call_llm`, metered, for one execution on one row.

Implements the sandbox's `WorkflowHost`. `call_llm` is the paper's (Figure 3); what a workflow
claims to have cost is ignored: this counts.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from bayesflow_sandbox.errors import CallRefusedError
from bayesflow_sandbox.llm_call import LLMCall
from bayesflow_server.gateway.cache_key import CallContext
from bayesflow_server.gateway.gateway import Answer, ModelSession
from bayesflow_server.models.chat import ChatMessage, ChatRequest

__all__ = ["Door", "Meter"]


@dataclass
class Meter:
    """What one execution used; tokens and cost as if nothing had been cached."""

    calls: int = 0
    cached_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def count(self, answer: Answer) -> None:
        """Adds one answered request."""
        self.calls += 1
        self.cached_calls += answer.cached
        self.input_tokens += answer.completion.usage.input_tokens
        self.output_tokens += answer.completion.usage.output_tokens


@dataclass
class Door:
    """Answers the calls of one execution.

    Attributes:
        session: The executor model on the run's account.
        example: The row's id.
        replicate: Which pass over the rows.
        seed: The run's seed.
        meter: What was used so far.
    """

    session: ModelSession
    example: str
    replicate: int
    seed: int
    meter: Meter = field(default_factory=Meter)
    _asked: Counter[ChatRequest] = field(default_factory=Counter[ChatRequest], init=False)
    _serving: set[asyncio.Task[object]] = field(
        default_factory=set[asyncio.Task[object]], init=False
    )
    _closed: bool = field(default=False, init=False)

    async def call_llm(self, call: LLMCall) -> list[str]:
        """The texts of one `call_llm`, `num_of_response` of them.

        Raises:
            CallRefusedError: The execution is over.
        """
        task = asyncio.current_task()
        if self._closed or task is None:
            raise CallRefusedError("the execution is over")
        self._serving.add(task)
        try:
            return await self._answer(call)
        finally:
            self._serving.discard(task)

    async def aclose(self) -> None:
        """Ends the calls in flight and refuses further ones.

        The interpreter may hand over a call that it made before it was stopped; nobody would read
        its answer, but it would be paid.
        """
        self._closed = True
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _answer(self, call: LLMCall) -> list[str]:
        request = ChatRequest(
            messages=_turns(call),
            temperature=call.temperature,
            max_tokens=call.max_tokens,
            stop=call.stop,
        )
        return [await self._ask(request) for _ in range(call.num_of_response)]

    async def _ask(self, request: ChatRequest) -> str:
        ordinal = self._asked[request]
        self._asked[request] += 1
        context = CallContext(self.example, self.replicate, ordinal, self.seed)
        answer = await self.session.complete(request, context)
        self.meter.count(answer)
        return answer.completion.text

    def get_usage_summary(self) -> dict[str, float]:
        """What the workflow is told of its usage so far."""
        return {
            "total_cost": 0.0,
            "calls": self.meter.calls,
            "input_tokens": self.meter.input_tokens,
            "output_tokens": self.meter.output_tokens,
        }


def _turns(call: LLMCall) -> tuple[ChatMessage, ...]:
    """The conversation, led by a system turn made of the role and the instructions."""
    role = f"You are a {call.agent_role}." if call.agent_role else ""
    system = "\n".join(text for text in (role, call.instructions) if text)
    turns = [ChatMessage("system", system)] if system else []
    turns += [ChatMessage(turn.role, turn.content) for turn in call.turns]
    return tuple(turns)

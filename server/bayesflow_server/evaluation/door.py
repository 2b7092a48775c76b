"""The door a workflow has to the world: `call_llm`, metered, for one execution on one row.

Implements the sandbox's `WorkflowHost`. `call_llm` is the paper's (Figure 3); what a workflow
claims to have cost is ignored: this counts.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from bayesflow_sandbox.errors import CallRefusedError
from bayesflow_sandbox.llm_call import LLMCall, Tier
from bayesflow_server.errors import RequestRefusedError
from bayesflow_server.evaluation.call_log import CallLog
from bayesflow_server.evaluation.outcomes import NOT_WELL
from bayesflow_server.gateway.cache_key import CallContext
from bayesflow_server.gateway.gateway import Answer, ModelSession
from bayesflow_server.models.chat import ChatMessage, ChatModel, ChatRequest, ManySampler, Usage

__all__ = ["NO_TIERS", "Door", "Meter", "Tiers"]

Tiers = Mapping[Tier, ModelSession]
NO_TIERS: Final[Tiers] = {}


@dataclass
class Meter:
    """What one execution used; tokens and cost as if nothing had been cached.

    Attributes:
        calls: Answers that models gave, cached ones included.
        cached_calls: Answers that the cache gave.
        input_tokens: Tokens of the questions.
        output_tokens: Tokens of the answers.
        outcomes: How many answers ended otherwise than well, by stop reason.
    """

    calls: int = 0
    cached_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    _costs: list[float | None] = field(default_factory=list[float | None], init=False)

    def count(self, answer: Answer, usage: Usage, cost_usd: float | None) -> None:
        """Adds one answer with its tokens and list price, both as if nothing had been cached."""
        self.calls += 1
        self.cached_calls += answer.cached
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self._costs.append(cost_usd)
        ending = answer.completion.stop_reason
        if ending in NOT_WELL:
            self.outcomes[ending] += 1

    @property
    def usd(self) -> float | None:
        """List price of all answers together, or None if a part is unknown."""
        known = [cost for cost in self._costs if cost is not None]
        # Exactly rounded, so that the order in which concurrent answers came does not show.
        return math.fsum(known) if len(known) == len(self._costs) else None


class _Question(NamedTuple):
    """What makes two requests of one execution equal."""

    model: str
    request: ChatRequest


@dataclass
class Door:
    """Answers the calls of one execution.

    Attributes:
        session: The executor model on the run's account.
        example: The row's id.
        replicate: Which pass over the rows.
        seed: The run's seed.
        tiers: The models that a call may name by tier, on the same account; none: no tiers.
        meter: What was used so far.
        log: The last calls, cut short.
    """

    session: ModelSession
    example: str
    replicate: int
    seed: int
    tiers: Tiers = field(default_factory=lambda: NO_TIERS)
    meter: Meter = field(default_factory=Meter)
    log: CallLog = field(default_factory=CallLog)
    _asked: Counter[_Question] = field(default_factory=Counter[_Question], init=False)
    _serving: set[asyncio.Task[object]] = field(
        default_factory=set[asyncio.Task[object]], init=False
    )
    _closed: bool = field(default=False, init=False)
    # Tokens of each question, as an earlier call told.
    _questions: dict[_Question, int] = field(default_factory=dict[_Question, int], init=False)

    def __post_init__(self) -> None:
        # One for all models: it bounds the execution.
        self._deadline = self.session.deadline()

    async def call_llm(self, call: LLMCall) -> list[str]:
        """The texts of one `call_llm`, `num_of_response` of them.

        Refused, cut and empty answers are texts as they are; the meter counts them.

        Raises:
            CallRefusedError: The execution is over, the run offers no such tier, the prompt is
                longer than the model's context, or the model answers others and refuses this one.
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
        session = self._model(call.tier)
        request = ChatRequest(
            messages=_turns(call),
            temperature=call.temperature,
            max_tokens=call.max_tokens,
            stop=call.stop,
        )
        question = _Question(session.model.identity, request)
        contexts = self._contexts(question, call.num_of_response)
        logged = self.log.begin(request)
        answers = await self._complete(session, request, contexts)
        usages = _as_if_uncached(session.model, answers, self._questions.get(question, 0))
        self._questions[question] = usages[0].input_tokens
        for answer, usage in zip(answers, usages, strict=True):
            self.meter.count(answer, usage, session.list_cost_usd(usage))
        completions = [answer.completion for answer in answers]
        logged.answered(completions)
        # An answer that met the end of the context halfway is one that was cut: it has a text.
        if any(one.stop_reason == "context_overflow" and not one.text for one in completions):
            raise CallRefusedError(_too_long(request, completions[0].usage))
        return [completion.text for completion in completions]

    async def _complete(
        self, session: ModelSession, request: ChatRequest, contexts: list[CallContext]
    ) -> list[Answer]:
        """The answers, unless the model refuses this request again and answers others.

        A refusal by a model that has answered nothing yet says more about the endpoint than about
        the workflow, and pauses the run.
        """
        try:
            return await session.complete_many(request, contexts, self._deadline)
        except RequestRefusedError:
            if not await session.has_answered():
                raise
        try:
            return await session.complete_many(request, contexts, self._deadline)
        except RequestRefusedError as refusal:
            raise CallRefusedError(f"call_llm(): {refusal}") from None

    def _model(self, tier: Tier | None) -> ModelSession:
        if tier is None:
            return self.session
        if tier not in self.tiers:
            offered = ", ".join(f"'{name}'" for name in sorted(self.tiers))
            raise CallRefusedError(
                f"call_llm(): this run offers {'the tiers ' + offered if offered else 'no tiers'}; "
                f"leave out tier={tier!r}"
            )
        return self.tiers[tier]

    def _contexts(self, question: _Question, count: int) -> list[CallContext]:
        """A context for each of the `count` draws that this question asks for now."""
        first = self._asked[question]
        self._asked[question] += count
        return [
            CallContext(self.example, self.replicate, ordinal, self.seed)
            for ordinal in range(first, first + count)
        ]

    def get_usage_summary(self) -> dict[str, float]:
        """What the workflow is told of its usage so far; a price that is unknown reads as 0."""
        return {
            "total_cost": self.meter.usd or 0.0,
            "calls": self.meter.calls,
            "input_tokens": self.meter.input_tokens,
            "output_tokens": self.meter.output_tokens,
        }


def _as_if_uncached(model: ChatModel, answers: Sequence[Answer], question: int) -> list[Usage]:
    """The tokens of each answer, had this call bought all of them.

    A model that draws several at once counts the question with the first of those bought together;
    which these were depends on who asked before. Here it is counted once for every `most_samples`.

    Args:
        model: Who answered.
        answers: At least one, in the order of their ordinals.
        question: Tokens of the question, as far as an earlier call of the execution told.
    """
    usages = [answer.completion.usage for answer in answers]
    if not isinstance(model, ManySampler):
        return usages
    tokens = max(question, *(usage.input_tokens for usage in usages))
    most = max(1, model.most_samples)
    return [
        replace(usage, input_tokens=0 if place % most else tokens, cached_input_tokens=0)
        for place, usage in enumerate(usages)
    ]


def _too_long(request: ChatRequest, usage: Usage) -> str:
    characters = sum(len(turn.content) for turn in request.messages)
    tokens = f", {usage.input_tokens} tokens" if usage.input_tokens else ""
    return (
        f"call_llm(): the prompt ({characters} characters{tokens}) is longer than the model's "
        "context; shorten it"
    )


def _turns(call: LLMCall) -> tuple[ChatMessage, ...]:
    """The conversation, led by a system turn made of the role and the instructions."""
    role = f"You are a {call.agent_role}." if call.agent_role else ""
    system = "\n".join(text for text in (role, call.instructions) if text)
    turns = [ChatMessage("system", system)] if system else []
    turns += [ChatMessage(turn.role, turn.content) for turn in call.turns]
    return tuple(turns)

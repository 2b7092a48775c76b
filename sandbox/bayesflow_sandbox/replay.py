"""Remembers what the host answered in a first try, so that a second one asks only what is new.

A workflow that turns out to need another engine starts anew there. Its calls have been made and
paid for, and the host would take equal calls for further ones. ``ReplayHost`` stands between: in
the second try, a call that equals one of the first gets that one's answer, in the order of asking;
a call still under way when the first try ended goes on and answers the second. Made by ``Sandbox``
for each execution.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import NamedTuple

from bayesflow_sandbox.host import WorkflowHost
from bayesflow_sandbox.llm_call import LLMCall

__all__ = ["ReplayHost"]


class _Made(NamedTuple):
    """A call that the host was asked for."""

    call: LLMCall
    answer: asyncio.Future[list[str]]


class ReplayHost:
    """A ``WorkflowHost`` before the real one. Needs a running event loop.

    Args:
        host: The real one, asked once for each call that no try has made yet.
    """

    def __init__(self, host: WorkflowHost) -> None:
        self._host = host
        self._made: list[_Made] = []
        self._unheard: dict[LLMCall, deque[asyncio.Future[list[str]]]] = {}
        self._usages: list[Mapping[str, float]] = []  # after so many answers, in the first try
        self._answered = 0
        self._replaying = False

    async def call_llm(self, call: LLMCall, /) -> list[str]:
        """The answer of the earlier try if it has one left for this call, else the host's."""
        answer = self._answer(call)
        # The answer outlives this try: an engine that stops cancels only those who wait for it.
        texts = await asyncio.shield(answer)
        self._answered += 1
        if not self._replaying:
            self._usages.append(self._host.get_usage_summary())
        return texts

    def get_usage_summary(self) -> Mapping[str, float]:
        """The host's, or in the second try what it was at this point of the first."""
        if self._replaying and self._answered < len(self._usages) - 1:
            return self._usages[self._answered]
        return self._host.get_usage_summary()

    def restart(self) -> None:
        """Begins the second try."""
        unheard: defaultdict[LLMCall, deque[asyncio.Future[list[str]]]] = defaultdict(deque)
        for made in self._made:
            unheard[made.call].append(made.answer)
        self._unheard = dict(unheard)
        self._answered = 0
        self._replaying = True

    async def aclose(self) -> None:
        """Cancels the calls under way and waits for their end."""
        for made in self._made:
            made.answer.cancel()
        await asyncio.gather(*(made.answer for made in self._made), return_exceptions=True)

    def _answer(self, call: LLMCall) -> asyncio.Future[list[str]]:
        unheard = self._unheard.get(call)
        if unheard:
            return unheard.popleft()
        if not self._usages and not self._replaying:
            self._usages.append(self._host.get_usage_summary())
        answer = asyncio.ensure_future(self._host.call_llm(call))
        self._made.append(_Made(call, answer))
        return answer

"""Every draw of a search, remembered in its journal: what is recorded is never drawn again."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bayesflow_sampler.codec import (
    decode_decision,
    decode_edit,
    decode_workflow,
    decode_workflows,
    encode_decision,
    encode_edit,
    encode_workflow,
    encode_workflows,
)
from bayesflow_sampler.ports import Edit, Journal, Prior, Refiner, Suggestions
from bayesflow_sampler.types import Candidate, Decision, DrawKey, Workflow

__all__ = ["Drawing"]

_Drawn = TypeVar("_Drawn")


@dataclass(frozen=True)
class Drawing:
    """Draws from the prior, the refiner and whoever hands workflows in, through the journal."""

    prior: Prior
    refiner: Refiner
    journal: Journal
    suggestions: Suggestions | None

    async def extended(self, prefix: Workflow, key: DrawKey) -> Workflow:
        """One more step and a rollout: a complete workflow."""
        return await self._once(
            key, lambda: self.prior.extend(prefix, key), encode_workflow, decode_workflow
        )

    async def completed(self, prefix: Workflow, key: DrawKey) -> Workflow:
        """A further rollout."""
        return await self._once(
            key, lambda: self.prior.complete(prefix, key), encode_workflow, decode_workflow
        )

    async def edited(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        """An edit of a workflow of the pool."""
        return await self._once(
            key, lambda: self.refiner.refine(pool, seen, key), encode_edit, decode_edit
        )

    async def suggested(self, number: int) -> Sequence[Workflow]:
        """What was handed in from outside since the round before."""
        outside = self.suggestions
        if outside is None:
            return ()
        return await self._once(
            DrawKey("suggest", number, 0),
            lambda: outside.take(number),
            encode_workflows,
            decode_workflows,
        )

    async def stopped(
        self, number: int, decide: Callable[[], Awaitable[Decision | None]]
    ) -> Decision | None:
        """Whether the search stops after round t: decided once, whatever a later sitting spent."""
        key = DrawKey("stop", number, 0)
        return await self._once(key, decide, encode_decision, decode_decision)

    async def _once(
        self,
        key: DrawKey,
        draw: Callable[[], Awaitable[_Drawn]],
        encode: Callable[[_Drawn], str],
        decode: Callable[[str], _Drawn],
    ) -> _Drawn:
        known = await self.journal.recall(key)
        if known is not None:
            return decode(known)
        drawn = await draw()
        await self.journal.record(key, encode(drawn))
        return drawn

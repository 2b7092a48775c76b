"""The models of a run at work: one session a role, all on the run's one budget."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bayesflow_server.gateway.budget import Budget
from bayesflow_server.gateway.gateway import Gateway, ModelSession
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.runs.options import Tier
from bayesflow_server.runs.roles import CLIENT, GRAMMAR, Roles
from bayesflow_server.store.records import Role

__all__ = ["Sessions", "open_sessions"]


class Sessions(NamedTuple):
    """A session for each role that a model plays; a grammar or an agent has none.

    Attributes:
        executor: Answers the workflows' calls.
        optimizer: Writes workflows.
        refiner: Edits them.
        judge: Grades answers.
        tiers: Answer the calls that name a tier.
    """

    executor: ModelSession
    optimizer: ModelSession | None
    refiner: ModelSession | None
    judge: ModelSession | None
    tiers: Mapping[Tier, ModelSession]

    def notes(self) -> Iterator[str]:
        """What the models did not take, a sentence each."""
        found = {(one.model.spec, name) for one in self._all() for name in one.dropped}
        for spec, name in sorted(found):
            yield f"{spec} takes no {name}: it was left out of the calls."

    def troubles(self) -> Iterator[str]:
        """What keeps models from answering for some seconds already, a sentence each."""
        yield from dict.fromkeys(one.trouble for one in self._all() if one.trouble is not None)

    def _all(self) -> list[ModelSession]:
        single = (self.executor, self.optimizer, self.refiner, self.judge)
        return [one for one in (*single, *self.tiers.values()) if one is not None]


def open_sessions(
    gateway: Gateway, models: ModelRegistry, roles: Roles, budget: Budget, scope: str
) -> Sessions:
    """The sessions of a run.

    Raises:
        ModelUnavailableError: A model cannot be used here.
    """

    def session(spec: str | None, role: Role) -> ModelSession | None:
        if spec is None or spec in (GRAMMAR, CLIENT):
            return None
        return gateway.session(models.model(spec), budget, scope=scope, role=role)

    executor = session(roles.executor, "executor")
    assert executor is not None
    tiers: dict[Tier, ModelSession] = {}
    for tier, spec in roles.tiers.items():
        named = session(spec, "executor")
        if named is not None:
            tiers[tier] = named
    return Sessions(
        executor=executor,
        optimizer=session(roles.optimizer, "optimizer"),
        refiner=session(roles.refiner, "refiner"),
        judge=session(roles.judge, "judge"),
        tiers=tiers,
    )

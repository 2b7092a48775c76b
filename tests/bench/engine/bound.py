"""The time below which no engine could have finished a search, from the calls it really made.

Round t grows in A_t = max(longest path, work / C): a path is a draw, the rollouts that wait for
it, and the longest chain of calls of one example. An edit takes its writing, then
max(longest chain, work / C). Edits are made one after the other (with a lag of 1, edit m+1 is
written once m-1 is scored), after the scores of their round.

- inject:  rounds and their edits strictly in turn, Σ_t [A_t + edits of t].
- archive: a round needs the selection before it and no edit. For each t, what must lie before the
  edits of t (growth up to t: paths or work / C), then the edits of t; the most of these is the
  bound, and no less than all work / C. Where the edits of all rounds are one chain, the edits
  before t lie before, too, and those after t behind.
"""

from dataclasses import dataclass
from typing import NamedTuple

from bayesflow_sampler.options import SearchOptions
from bench.engine.ports import Account

__all__ = ["lower_bound"]


class _Edit(NamedTuple):
    """Seconds that an edit takes to write and at least to score, and of its calls together."""

    writing: float
    scoring: float
    work: float


@dataclass(frozen=True)
class _Round:
    growth: float
    growth_work: float
    edits: tuple[_Edit, ...]

    @property
    def edits_work(self) -> float:
        return sum(edit.work for edit in self.edits)


def lower_bound(
    account: Account, options: SearchOptions, capacity: int, *, chained: bool = True
) -> float:
    """Seconds.

    Args:
        account: What the search drew and executed.
        options: Its settings.
        capacity: C, the most calls at once.
        chained: Whether the archived edits of a round wait for those of the round before.
    """
    rounds = [_round(account, options, capacity, t) for t in range(1, options.rounds + 1)]
    if options.refinement == "inject":
        return sum(one.growth + _in_turn(one.edits, options.refiner_lag) for one in rounds)
    lag = options.refiner_lag
    return max(
        _archive(rounds, lag, capacity, place, chained=chained) for place in range(len(rounds))
    )


def _archive(rounds: list[_Round], lag: int, capacity: int, place: int, *, chained: bool) -> float:
    """What lies before the edits of the round at `place`, and the edits from there on."""
    grown, before = rounds[: place + 1], rounds[:place]
    paths = sum(one.growth for one in grown)
    work = sum(one.growth_work for one in grown)
    chain = list(rounds[place].edits)
    if chained:
        work += sum(one.edits_work for one in before)
        chain += [edit for one in rounds[place + 1 :] for edit in one.edits]
    total = sum(one.growth_work + one.edits_work for one in rounds) / capacity
    return max(max(paths, work / capacity) + _in_turn(chain, lag), total)


def _round(account: Account, options: SearchOptions, capacity: int, t: int) -> _Round:
    longest = work = 0.0
    for index in range(options.particles):
        first = f"extend/{t}/{index}/0"
        written = account.writing[first]
        rest = [f"complete/{t}/{index}/{k}" for k in range(1, options.rollouts)]
        rest = [name for name in rest if name in account.writing]
        paths = [written + max(account.chains[first])]
        paths += [written + account.writing[n] + max(account.chains[n]) for n in rest]
        longest = max(longest, *paths)
        work += sum(account.writing[n] + sum(account.chains[n]) for n in [first, *rest])
    edits = [_edit(account, f"refine/{t}/{m}/0", capacity) for m in range(options.refinements)]
    return _Round(max(longest, work / capacity), work, tuple(edits))


def _edit(account: Account, name: str, capacity: int) -> _Edit:
    chains = account.chains[name]
    scoring = max(max(chains), sum(chains) / capacity)
    return _Edit(account.writing[name], scoring, account.writing[name] + sum(chains))


def _in_turn(edits: list[_Edit] | tuple[_Edit, ...], lag: int) -> float:
    """Seconds from the first writing to the last score."""
    written = 0.0
    scored = [0.0] * (lag + 1)  # invariant: the ends of the scores so far, newest last
    for edit in edits:
        written = max(written, scored[-1 - lag]) + edit.writing
        scored.append(max(scored[-1], written + edit.scoring))
    return scored[-1]

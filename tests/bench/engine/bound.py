"""The time below which no engine could have finished a search, from the calls it really made.

Round t grows in A_t = max(longest path, work / C): a path is a draw, the rollouts that wait for
it, and the longest chain of calls of one example. An edit takes its writing, then
max(longest chain, work / C). Edits are made one after the other (with a lag of 1, edit m+1 is
written once m-1 is scored), after the scores of their round.

- inject:  rounds and their edits strictly in turn, Σ_t [A_t + edits of t].
- archive: a round needs the selection before it and no edit. The edits of round t need its growth,
  all edits before them, and the best of these scored again on the round's rows. No less than all
  work up to there / C.
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
    """Seconds that a round takes at least, and of its calls together.

    Attributes:
        growth: Of its draws and their scoring.
        growth_work: Their calls together.
        again: Of scoring edits of earlier rounds again.
        edits: Its own edits.
        edits_work: All calls for edits, those of scoring them again too.
    """

    growth: float
    growth_work: float
    again: float
    edits: tuple[_Edit, ...]
    edits_work: float


def lower_bound(account: Account, options: SearchOptions, capacity: int) -> float:
    """Seconds.

    Args:
        account: What the search drew and executed.
        options: Its settings.
        capacity: C, the most calls at once.
    """
    rounds = [_round(account, options, capacity, t) for t in range(1, options.rounds + 1)]
    if options.refinement == "inject":
        return sum(one.growth + _in_turn(one.edits, options.refiner_lag) for one in rounds)
    grown = refined = work = 0.0
    for one in rounds:
        grown, work = grown + one.growth, work + one.growth_work
        begun = max(grown, work / capacity, refined + one.again)
        refined = begun + _in_turn(one.edits, options.refiner_lag)
        work += one.edits_work
    return max(refined, work / capacity)


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
    again = account.rescored.get(t, [])
    return _Round(
        growth=max(longest, work / capacity),
        growth_work=work,
        again=max(max(again, default=0.0), sum(again) / capacity),
        edits=tuple(edits),
        edits_work=sum(edit.work for edit in edits) + sum(again),
    )


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

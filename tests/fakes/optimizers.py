"""Functions that play an optimizer LLM for the additions of `fakes.tasks`.

They look at the last turn's text and at `sample`, nothing else: a fence with steps of theirs is
what is already written, and a few words tell a continuation from a repair, a critique, an edit.
`GoodOptimizer` answers cleanly; `MessyOptimizer` as models do, and sometimes not at all.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeVar

from bayesflow_sampler.randomness import uniform
from bayesflow_server.models.chat import ChatRequest
from fakes.messy_answers import STYLES, Answer, NumberedStep, fenced

__all__ = ["GoodOptimizer", "MessyOptimizer"]

T = TypeVar("T")
Kind = Literal["continue", "repair", "critique", "edit"]


class _Variant(NamedTuple):
    """A step that the optimizers know.

    `next` names the state behind it, None the end. A sound one runs and holds no `try`; whether it
    is any good is another question.
    """

    title: str
    body: str
    next: str | None
    sound: bool = True


_ASK: Final = "await self.llm.call_llm(messages="
_STATES: Final[dict[str, tuple[_Variant, ...]]] = {
    "write": tuple(_Variant(f"Style {k}", f'text = "style{k} " + problem', "ask") for k in "1234"),
    "ask": (
        _Variant("Ask once", f"out = ({_ASK}[text], temperature=0.0))[0]", "answer"),
        _Variant(
            "Ask twice",
            f"both = {_ASK}[text], temperature=0.8, num_of_response=2)\nout = both[1]",
            "answer",
        ),
        _Variant(
            "Ask and ask again",
            f"out = ({_ASK}[text], temperature=0.0))[0]\n"
            f'out = ({_ASK}[text + " " + out + " 0"], temperature=0.0))[0]',
            "tidy",
        ),
        _Variant("Ask a friend", f"out = ({_ASK}[txt], temperature=0.0))[0]", "tidy", sound=False),
    ),
    "tidy": (
        _Variant(
            "Tidy the reply: strip it",
            'for blank in (" ", "\\n"):\n    # Step 1: not a header\n    out = out.strip(blank)',
            "answer",
        ),
        _Variant(
            "Tidy with care",
            'try:\n    out = str(int(out))\nexcept ValueError:\n    out = "0"',
            "answer",
            sound=False,
        ),
    ),
    "answer": (
        _Variant("Answer", "return out, 0.0", None),
        _Variant("Answer and pay", 'return out, self.llm.get_usage_summary()["total_cost"]', None),
        _Variant("Cut the answer", "return out[1:], 0.0", None),
        _Variant("Fail", "return 1 // 0, 0.0", None, sound=False),
        _Variant("Answer in haste", "return oot, 0.0", None, sound=False),
        _Variant("Answer out of balance", "return out), 0.0", None, sound=False),
        _Variant(
            "Answer from home", 'import os\nreturn os.environ["HOME"], 0.0', None, sound=False
        ),
    ),
}
_KNOWN: Final = {choice.title: choice for choices in _STATES.values() for choice in choices}
_FENCE: Final = re.compile(r"^(```+)python\n(.*?)^\1", re.MULTILINE | re.DOTALL)
_HEADER: Final = re.compile(r"^ {8}# Step (\d+): (.*?) *$|^# Step (\d+): (.*?) *$", re.MULTILINE)
_ENDLESS: Final = "First I think about the problem, and then I think about it once more. " * 300
_NO_ANSWERS: Final = (
    _ENDLESS,
    "I'm sorry, but I can't help with writing this workflow.",
    "",
    "I would tidy the reply.\n\nStep 2: Ask once.\nStep 3: Answer.\n\nShall I write the code?",
)
_CRITIQUE: Final = "The style suits these numbers badly. Change the style of the first step."


class GoodOptimizer:
    """Answers every question with sound steps in one clean fence."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def __call__(self, request: ChatRequest) -> str:
        """The answer to the request's last turn."""
        text = request.messages[-1].content
        kind = _kind(text)
        if kind == "critique":
            return _CRITIQUE
        seed = _digest(self._seed, text, request.sample)
        kept, steps = _steps(_written(text, kind), kind, seed, sound=True)
        return fenced(_answer(kept, steps, whole=_asks_for_all(text)))


class MessyOptimizer:
    """Answers as models do: good, bad and broken steps in every wrapping, or none at all."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def __call__(self, request: ChatRequest) -> str:
        """The answer to the request's last turn."""
        text = request.messages[-1].content
        kind = _kind(text)
        if kind == "critique":
            return _CRITIQUE
        seed = _digest(self._seed, text, request.sample)
        if uniform(seed, "silent") < 0.08:
            return _chosen(_NO_ANSWERS, seed, "silence")
        # A model mends most of its faults when it is shown them, not all.
        sound = kind == "repair" and uniform(seed, "mends") < 0.75
        kept, steps = _steps(_written(text, kind), kind, seed, sound=sound)
        answer = _answer(kept, steps, whole=_asks_for_all(text))
        return _chosen(STYLES, seed, "style")(answer)


def _asks_for_all(text: str) -> bool:
    """An edit, or its repair: there is no prefix, so the whole workflow is wanted."""
    return re.search(r"\bedit\b", text.lower()) is not None


def _kind(text: str) -> Kind:
    lowered = text.lower()
    edits = _asks_for_all(text)
    if re.search(r"try-except|cannot be used|correct(?:ed)? (?:it|version)", lowered):
        return "repair"
    if not edits and ("critique" in lowered or "no code" in lowered):
        return "critique"
    if edits:
        return "edit"
    return "repair" if re.search(r"\berror\b|error:", lowered) else "continue"


def _digest(seed: int, text: str, sample: int) -> int:
    digest = hashlib.blake2b(f"{seed} {sample} {text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _chosen(choices: Sequence[T], seed: int, *path: str | int) -> T:
    return choices[int(uniform(seed, *path) * len(choices))]


def _written(text: str, kind: Kind) -> tuple[_Variant, ...]:
    """The steps of ours that the text shows: those to go on from, to repair or to edit.

    A fence with other steps is an example. To be repaired is the last one, which may hold the new
    steps alone: they follow those before them.
    """
    found: tuple[_Variant, ...] = ()
    for match in _FENCE.finditer(text):
        headers = [(a or c, b or d) for a, b, c, d in _HEADER.findall(match[2])]
        if not headers or any(title not in _KNOWN for _, title in headers):
            continue
        found = found[: int(headers[0][0]) - 1] + tuple(_KNOWN[title] for _, title in headers)
        if kind == "edit":
            break
    return found


def _steps(
    written: tuple[_Variant, ...], kind: Kind, seed: int, *, sound: bool
) -> tuple[tuple[_Variant, ...], list[_Variant]]:
    """What stays of the written steps, and the steps that follow, to the end."""
    kept = written
    if kind == "repair":
        broken = [place for place, step in enumerate(written) if not step.sound]
        kept = written[: broken[0]] if broken else written[:-1]
    elif kind == "edit" and written:
        kept = written[: int(uniform(seed, "edited") * len(written))]
    # Asked to go on from what is finished, a model writes another end.
    state = (kept[-1].next or "answer") if kept else "write"
    steps: list[_Variant] = []
    while state is not None:
        choices = [choice for choice in _STATES[state] if choice.sound or not sound]
        steps.append(_chosen(choices, seed, "step", state))
        state = steps[-1].next
    return kept, steps


def _answer(kept: Sequence[_Variant], steps: Sequence[_Variant], *, whole: bool) -> Answer:
    numbered = [
        NumberedStep(number, step.title, step.body)
        for number, step in enumerate([*kept, *steps], start=1)
    ]
    return Answer(tuple(numbered[: len(kept)]), tuple(numbered[len(kept) :]), whole)

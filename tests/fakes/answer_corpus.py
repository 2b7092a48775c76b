"""Answers as models really send them, each with what a reader must make of it.

One file a case in `tests/sampler/answers`: lines `%%% name` open sections, their text is verbatim.

    title     what is peculiar about it          why     the reason, where the design is silent
    prefix    a file of `prefixes/`, or `none`   ending  `end` if absent
    answer    what the model sent
    trouble   for what cannot be read: the trouble; where two would be right, both, split by `|`
    steps     else: the titles of the whole workflow, prefix included
    body n    the statements of step n; a step of the prefix without one is the prefix's own
    module n  the imports and helpers that step n brings along; none if absent
    members   names that the class must define; `contains`, `lacks`: texts of the source
    preamble  `ours`: the preamble must be the prefix's to the byte
    compare   `tree`: bodies are compared as syntax trees, for how they are laid out is open

Characters that an editor would hide or change are written as `MARKS` says.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from bayesflow_sampler.grammar import PREAMBLE
from bayesflow_sampler.ports import Reply, ReplyEnding
from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import Workflow

__all__ = ["FOLDER", "MARKS", "SECTIONS", "AnswerCase", "load_case", "load_cases", "load_prefix"]

FOLDER: Final = Path(__file__).parents[1] / "sampler" / "answers"
MARKS: Final = {"⇥": "\t", "␍": "\r", "␠": " ", "⍽": "\u00a0", "⟪BOM⟫": "\ufeff"}
SECTIONS: Final = {
    *("title", "why", "prefix", "ending", "answer", "trouble", "steps", "body", "module"),
    *("members", "contains", "lacks", "preamble", "compare"),
}
_SECTION: Final = re.compile(r"^%%% (.*)\n", re.MULTILINE)
_NUMBERED: Final = re.compile(r"(?:body|module) (\d+)")


@dataclass(frozen=True, slots=True)
class AnswerCase:
    """One answer and what must become of it.

    Attributes:
        name: The file's name, without its ending.
        title: What is peculiar about the answer.
        sections: Names of all sections, in the file's order.
        prefix: What the workflow began with.
        reply: What the model sent.
        troubles: The troubles that would be right; empty if the answer can be read.
        titles: The steps' titles, those of the prefix included.
        bodies: Step number → its statements, for the steps that are not the prefix's own.
        modules: Step number → the module-level code it brings along.
        members: Names the class must define.
        contains: Texts that the source must hold.
        lacks: Texts that it must not hold.
        keeps_preamble: The preamble must be the prefix's.
        by_tree: Bodies are compared as syntax trees.
    """

    name: str
    title: str
    sections: tuple[str, ...]
    prefix: Workflow
    reply: Reply
    troubles: tuple[str, ...]
    titles: tuple[str, ...]
    bodies: dict[int, str]
    modules: dict[int, str]
    members: tuple[str, ...]
    contains: tuple[str, ...]
    lacks: tuple[str, ...]
    keeps_preamble: bool
    by_tree: bool


def load_cases() -> tuple[AnswerCase, ...]:
    """Every case, in the order of their names."""
    return tuple(load_case(path) for path in sorted(FOLDER.glob("*.txt")))


def load_case(path: Path) -> AnswerCase:
    """Reads one case; a section it must have and lacks is a KeyError."""
    parts = _SECTION.split(path.read_text("utf-8"))
    text = dict(zip(parts[1::2], map(_unmarked, parts[2::2]), strict=True))
    lines = {name: tuple(value.splitlines()) for name, value in text.items()}
    troubles = text.get("trouble", "").split("|") if "trouble" in text else []
    return AnswerCase(
        name=path.stem,
        title=text["title"].strip(),
        sections=tuple(parts[1::2]),
        prefix=load_prefix(text["prefix"].strip()),
        reply=Reply(text["answer"], cast(ReplyEnding, text.get("ending", "end").strip())),
        troubles=tuple(trouble.strip() for trouble in troubles),
        titles=lines.get("steps", ()),
        bodies=_numbered(text, "body"),
        modules=_numbered(text, "module"),
        members=lines.get("members", ()),
        contains=lines.get("contains", ()),
        lacks=lines.get("lacks", ()),
        keeps_preamble=text.get("preamble", "").strip() == "ours",
        by_tree=text.get("compare", "").strip() == "tree",
    )


def load_prefix(name: str) -> Workflow:
    """The prefix of that name; the code in front of its class is what step 1 brought along."""
    if name == "none":
        return Workflow(PREAMBLE, ())
    workflow = parse_workflow((FOLDER / "prefixes" / f"{name}.txt").read_text("utf-8"))
    module, _, rest = workflow.preamble.partition("class Workflow:")
    first, *others = workflow.steps
    if module.strip():
        first = replace(first, module=module.strip("\n") + "\n")
    return Workflow("class Workflow:" + rest, (first, *others), workflow.indent)


def _numbered(text: dict[str, str], kind: str) -> dict[int, str]:
    return {
        int(match[1]): value
        for name, value in text.items()
        if (match := _NUMBERED.fullmatch(name)) and name.startswith(kind)
    }


def _unmarked(text: str) -> str:
    for mark, character in MARKS.items():
        text = text.replace(mark, character)
    return text

"""Reads a model's answer: our prefix and the answer's steps become a complete workflow.

    text → blocks (`fences`) → passages (`passage`) → one candidate → spliced (`splicing`) → Draft

Several blocks are joined while the numbering of their steps continues; where it restarts, the last
candidate that can be read counts. A cut, refused or overflowing answer is not looked into. Nothing
is run, and no text raises. Called by the model's prior and its refiner.
"""

import ast
from collections.abc import Sequence
from itertools import accumulate, zip_longest
from typing import Final, Literal, NamedTuple

from bayesflow_sampler.errors import SourceError
from bayesflow_sampler.fences import (
    Block,
    after_thought,
    code_blocks,
    looks_like_code,
    plain_blocks,
)
from bayesflow_sampler.passage import Fragment, Passage, read_passage
from bayesflow_sampler.ports import Reply
from bayesflow_sampler.source import STEP_HEADER, Section, source_lines
from bayesflow_sampler.splicing import splice
from bayesflow_sampler.types import Workflow

__all__ = ["Draft", "Trouble", "Unreadable", "read_answer"]

Trouble = Literal["refused", "overflow", "truncated", "no code", "syntax", "no workflow", "no step"]

_LONGEST: Final = 50_000  # characters of code that are looked at
_MOST_BLOCKS: Final = 64
_EMPTY: Final = Passage((), (), (), (), whole=False)

_ENDINGS: Final[dict[str, tuple[Trouble, str]]] = {
    "refused": ("refused", "The answer was a refusal; answer with the Python code that was asked."),
    "overflow": (
        "overflow",
        "Question and answer did not fit the context; answer with the code alone, and briefly.",
    ),
    "truncated": (
        "truncated",
        "The answer was cut off before its end; write it again, shorter and with the code alone.",
    ),
}
_NO_CODE: Final = (
    "The answer holds no Python code; write the step's code in one fence that begins with "
    "```python."
)
_NO_WORKFLOW: Final = (
    "`class Workflow` has no `async def __call__`; write that method, with each step below a "
    "comment `# Step {step}: title` at the top level of its body."
)
_NO_STEP: Final = (
    "The answer has no step {step}; begin it with a comment `# Step {step}: title` at the top "
    "level of the body of `__call__`."
)


class Draft(NamedTuple):
    """An answer that could be read.

    Attributes:
        workflow: A complete workflow: our prefix, byte for byte but for new members of the class,
            and the answer's steps. If the answer only adds a bare `return`, the prefix's own
            steps with that `return` at the end of the last.
    """

    workflow: Workflow


class Unreadable(NamedTuple):
    """An answer that could not be read.

    Attributes:
        trouble: What is the matter.
        explanation: One sentence for the model that must repair it.
        code: The code as far as it was found, or "".
    """

    trouble: Trouble
    explanation: str
    code: str


def read_answer(prefix: Workflow, reply: Reply) -> Draft | Unreadable:
    """Splices the steps of a model's answer behind our prefix.

    Args:
        prefix: Steps 1 to t-1, ours; the answer's own copy of them is not trusted.
        reply: What the model answered: a module, a class, a method or bare statements; fenced or
            not, with any margin, with prose around it.
    """
    if reply.ending != "end":
        trouble, explanation = _ENDINGS[reply.ending]
        return Unreadable(trouble, explanation, "")
    lines = source_lines(reply.text.lstrip("\ufeff"))
    thoughtless = after_thought(lines)
    try:
        result = _read(prefix, thoughtless)
        if isinstance(result, Unreadable) and thoughtless is not lines:
            whole = _read(prefix, lines)
            result = whole if isinstance(whole, Draft) else result
    except (RecursionError, MemoryError, ValueError):
        # Code that nests deeper than Python walks, or text that is no Unicode.
        explanation = "The code is nested too deeply or holds odd characters; write it plainly."
        return Unreadable("syntax", explanation, reply.text[:_LONGEST])
    return result


class _Reading(NamedTuple):
    """One block of code, read or not."""

    code: str
    passage: Passage | None
    error: SourceError | None
    numbers: tuple[int, ...]


def _read(prefix: Workflow, lines: Sequence[str]) -> Draft | Unreadable:
    blocks = code_blocks(lines)
    chosen = [block for block in blocks if block.python] or blocks
    readings = [_reading(block.text, prose=not block.closed) for block in _within_limits(chosen)]
    result = _best(prefix, _candidates(_joined(readings)))
    if isinstance(result, Draft) or result.trouble != "no code":
        return result
    texts = plain_blocks(lines)
    for text, following in zip_longest(texts, texts[1:], fillvalue=""):
        plain = _best(prefix, [[_reading(_plain(text), prose=True)]])
        if isinstance(plain, Draft):
            return plain
        result = plain if result.trouble == "no code" else result
        if _holds_step(text.removesuffix(following)):
            break
    return result


def _holds_step(text: str) -> bool:
    """Whether a stretch of plain text is a step, so that what follows is not all of the answer."""
    code = [line.strip() for line in source_lines(text) if looks_like_code(line)]
    headers = sum(STEP_HEADER.match(line) is not None for line in code)
    return bool(headers) and any(not line.startswith("#") for line in code)


def _within_limits(blocks: Sequence[Block]) -> Sequence[Block]:
    """The last blocks that can be read in a moment; at least one, if there are any."""
    last = blocks[-_MOST_BLOCKS:]
    sizes = accumulate(len(block.text) for block in reversed(last))
    count = sum(size <= _LONGEST for size in sizes)
    return last[-max(count, 1) :]


def _plain(text: str) -> str:
    """Plain text up to the limit, if nothing but prose follows there."""
    end = text.rfind("\n", 0, _LONGEST) + 1
    prose = end and not any(map(looks_like_code, source_lines(text[end:])))
    return text[:end] if prose and len(text) > _LONGEST else text


def _reading(code: str, *, prose: bool) -> _Reading:
    code = code.lstrip("\n")
    if len(code) > _LONGEST:
        error = SourceError(f"it has more than {_LONGEST:,} characters")
        return _Reading(code[:_LONGEST], None, error, ())
    try:
        passage = read_passage(code, prose=prose)
    except SourceError as error:
        matches = (STEP_HEADER.match(line.strip()) for line in source_lines(code))
        numbers = tuple(int(match["number"][:9]) for match in matches if match)
        return _Reading(code, None, error, numbers)
    sections = () if passage is None else passage.sections
    return _Reading(code, passage, None, tuple(section.number for section in sections))


def _joined(readings: list[_Reading]) -> list[_Reading]:
    """Readings in which a block that ends in the middle of a class has the next one behind it."""
    result: list[_Reading] = []
    for reading in readings:
        last = result[-1] if result else None
        if last is not None and last.passage is None and not (reading.passage or _EMPTY).whole:
            both = _reading(f"{last.code.rstrip()}\n{reading.code}", prose=False)
            if both.numbers and both.passage is not None:
                result[-1] = both
                continue
        result.append(reading)
    return result


def _candidates(readings: Sequence[_Reading]) -> list[list[_Reading]]:
    """Readings that belong together: while the numbering continues, they are one answer."""
    groups: list[list[_Reading]] = []
    frames: list[_Reading] = []
    last = 0
    for reading in readings:
        if reading.numbers:
            if groups and reading.numbers[0] > last:
                groups[-1].append(reading)
            else:
                groups.append([*frames, reading])
            last = reading.numbers[-1]
        elif reading.passage is not None and _continues(reading.passage):
            if groups:
                groups[-1].append(reading)
            frames.append(reading)
    # A `return` finishes the workflow if it is all that the answer adds.
    more = [reading for reading in readings if _adds_more(reading.passage or _EMPTY)]
    return groups or [[reading] for reading in more or readings]


def _continues(passage: Passage) -> bool:
    """Whether a block without steps is of use to one with steps: a frame, helpers, a `return`."""
    if not passage.whole and _is_return(passage):
        return True
    return passage.whole or not passage.setup


def _adds_more(passage: Passage) -> bool:
    return not _is_return(passage) and any(map(_does, passage.setup))


def _is_return(passage: Passage) -> bool:
    return len(passage.setup) == 1 and isinstance(passage.setup[0].node, ast.Return)


def _best(prefix: Workflow, groups: Sequence[Sequence[_Reading]]) -> Draft | Unreadable:
    """The last candidate that can be read, or what is the matter with the likeliest one."""
    failures: list[Unreadable] = []
    for group in reversed(groups):
        result = _attempt(prefix, group)
        if isinstance(result, Draft):
            return result
        failures.append(result)
    failures.sort(key=lambda failure: failure.trouble == "no code")
    return failures[0] if failures else Unreadable("no code", _NO_CODE, "")


def _attempt(prefix: Workflow, group: Sequence[_Reading]) -> Draft | Unreadable:
    code = "\n".join(reading.code for reading in group)
    for reading in group:
        if reading.error is not None:
            return _syntax(reading, reading.error)
    passages = [reading.passage for reading in group if reading.passage is not None]
    merged = _merged(passages)
    step = len(prefix) + 1
    try:
        workflow = splice(prefix, merged)
    except SourceError as error:
        return Unreadable("syntax", " ".join(str(error).split()), code)
    if workflow is not None:
        return Draft(workflow)
    if len(passages) < len(group) or _only_defines(merged):
        return Unreadable("no workflow", _NO_WORKFLOW.format(step=step), code)
    if not merged.whole and not merged.sections and not any(map(_does, merged.setup)):
        return Unreadable("no code", _NO_CODE, "")
    return Unreadable("no step", _NO_STEP.format(step=step), code)


def _merged(passages: Sequence[Passage]) -> Passage:
    """Passages one behind the other; a `return` alone ends the last step."""
    sections: list[Section] = []
    for passage in passages:
        if passage.sections:
            sections.extend(passage.sections)
        elif sections and not passage.whole and _is_return(passage):
            sections[-1] = sections[-1]._replace(body=sections[-1].body + passage.setup[0].text)
    return Passage(
        definitions=tuple(item for passage in passages for item in passage.definitions),
        members=tuple(item for passage in passages for item in passage.members),
        setup=passages[0].setup if passages else (),
        sections=tuple(sections),
        whole=any(passage.whole for passage in passages),
    )


def _only_defines(passage: Passage) -> bool:
    """Whether there are functions or classes, but nothing that is done."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defines = any(isinstance(item.node, kinds) for item in passage.definitions)
    return defines and not (passage.whole or passage.setup or passage.sections)


def _does(item: Fragment) -> bool:
    """Whether a statement is more than a value that stands there, such as a sample of output."""
    if not isinstance(item.node, ast.Expr):
        return True
    return any(isinstance(node, ast.Call | ast.Await) for node in ast.walk(item.node))


def _syntax(reading: _Reading, error: SourceError) -> Unreadable:
    lines = source_lines(reading.code)
    if not any(map(looks_like_code, lines)):
        return Unreadable("no code", _NO_CODE, "")
    reason = str(error).removeprefix("The workflow is not valid Python: ").rstrip(".")
    place = "The code"
    if error.line is not None and 0 < error.line <= len(lines):
        place = f"Line {error.line} of the code (`{lines[error.line - 1].strip()[:80]}`)"
    explanation = (
        f"{place} cannot be read as Python ({reason}); correct it and write the step again."
    )
    return Unreadable("syntax", " ".join(explanation.split()), reading.code)

"""The ways in which models wrap the steps they write, each a function of the steps.

All of them mean the same workflow; `fakes.optimizers` picks one for each answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bayesflow_sampler.grammar import PREAMBLE

__all__ = ["STYLES", "Answer", "NumberedStep", "fenced"]


class NumberedStep(NamedTuple):
    """A step as it is written down; its body stands at column 0 and may be no Python."""

    number: int
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says.

    Attributes:
        kept: The steps that were there before.
        new: The steps that follow them.
        whole: The whole workflow was asked for: the steps kept must be repeated.
    """

    kept: tuple[NumberedStep, ...]
    new: tuple[NumberedStep, ...]
    whole: bool = False


def fenced(answer: Answer) -> str:
    """As asked for: one fence, nothing else."""
    return f"```python\n{_code(answer)}```\n"


def _chatty(answer: Answer) -> str:
    plan = "\n".join(f"Step {step.number}: {step.title}" for step in answer.new)
    return f"Here's my plan:\n\n{plan}\n\n{fenced(answer)}\nIt's simple (and it works)!\n"


def _repeated(answer: Answer) -> str:
    return f"The complete workflow:\n\n```python\n{_class(answer.kept + answer.new)}```\n"


def _changed_prefix(answer: Answer) -> str:
    """The steps kept are repeated, the first of them with another word in it."""
    if answer.whole:
        return fenced(answer)
    changed = [step._replace(body=step.body.replace("style", "stile")) for step in answer.kept[:1]]
    return f"```\n{_class([*changed, *answer.kept[1:], *answer.new])}```"


def _bare(answer: Answer) -> str:
    return _code(answer)


def _headings(answer: Answer) -> str:
    if answer.whole:
        return _chatty(answer)
    return f"```py\n{_blocks(answer.new, 0, '### Step {}: {}')}```"


def _fence_a_step(answer: Answer) -> str:
    if answer.whole:
        return _repeated(answer)
    blocks = [_blocks([step], 0, "# Step {}: {}") for step in answer.new]
    return "\n\n".join(f"Then:\n\n```python\n{block}```" for block in blocks)


def _second_thoughts(answer: Answer) -> str:
    draft = [NumberedStep(answer.new[0].number, "Give up", "return problem, 0.0")]
    thought = _class([*answer.kept, *draft])
    return f"```python\n{thought}```\n\nNo, better:\n\n{fenced(answer)}"


def _thinking(answer: Answer) -> str:
    draft = "```python\n# Step 1: Guess\nx = 1\n```"
    return f"<think>\nPerhaps:\n\n{draft}\n</think>\n\n{fenced(answer)}"


def _shouting(answer: Answer) -> str:
    code = _class(answer.kept + answer.new, "# STEP {} - {}")
    return f"~~~python\n{code}~~~\n".replace("\n", "\r\n")


def _unclosed(answer: Answer) -> str:
    return f"```python\n{_code(answer)}"


def _with_usage(answer: Answer) -> str:
    code = _class(answer.kept + answer.new)
    return f'```python\n{code}\n\nif __name__ == "__main__":\n    # Step 1: try it\n    main()\n```'


STYLES: Final[tuple[Callable[[Answer], str], ...]] = (
    fenced,
    _chatty,
    _repeated,
    _changed_prefix,
    _bare,
    _headings,
    _fence_a_step,
    _second_thoughts,
    _thinking,
    _shouting,
    _unclosed,
    _with_usage,
)


def _code(answer: Answer) -> str:
    """The whole class where it was asked for or nothing was there, else the new steps."""
    if answer.whole or not answer.kept:
        return _class(answer.kept + answer.new)
    return _blocks(answer.new, 8, "# Step {}: {}")


def _class(steps: Sequence[NumberedStep], header: str = "# Step {}: {}") -> str:
    return PREAMBLE + _blocks(steps, 8, header)


def _blocks(steps: Sequence[NumberedStep], margin: int, header: str) -> str:
    space = " " * margin
    return "\n".join(
        f"{space}{header.format(step.number, step.title)}\n"
        + "".join(f"{space}{line}\n" for line in step.body.splitlines())
        for step in steps
    )

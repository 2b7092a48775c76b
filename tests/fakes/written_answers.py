"""Workflows of the general grammar, written down as a model might: a Hypothesis strategy.

What varies: how much of the prefix is repeated, the headers and their numbers, the margin, the
fence, the prose around it, the line ends. What a reader must make of each is known exactly.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from hypothesis import strategies as st

from bayesflow_sampler.grammar_file import general_grammar
from bayesflow_sampler.source import indent_code
from bayesflow_sampler.types import Step, Workflow

__all__ = ["Written", "written_answers"]


class Written(NamedTuple):
    """A workflow, the part of it that was there before, and an answer that gives the rest."""

    workflow: Workflow
    prefix: Workflow
    text: str


_INSTRUCTIONS: Final = (
    "Answer the question.",
    "Write ```python\ncode\n``` and nothing else.",
    "# Step 1: Read.\n# Step 2: \"Answer\" in '''quotes'''.",
)
_HEADERS: Final = (
    "# Step {}: {}",
    "# Step {}. {}",
    "# STEP {} - {}",
    "#Step {}: {}",
    "### Step {}: {}",
    "# **Step {}: {}**",
    "# --- Step {}: {} ---",
)
_FENCES: Final = ("```python", "```", "```py", "``` Python3", "~~~python", "````python")
_BEFORE: Final = (
    "",
    "Here is the next step:\n\n",
    "Step 1: I'd think.\nStep 2: I'd write.\n\n",
    "## Step 3: The code\n\n",
    "<think>\nMaybe a vote? It's (too costly.\n</think>\n",
)
_AFTER: Final = ("", "\nThat's all!", "\n\nStep 9: enjoy. It doesn't (yet) vote.\n")
_METHOD: Final = "    async def __call__(self, problem):\n"


@st.composite
def written_answers(draw: st.DrawFn) -> Written:
    """A drawn workflow, cut into a prefix and the answer that continues it."""
    instructions = draw(st.sampled_from(_INSTRUCTIONS))
    grammar = general_grammar(
        {"instructions": instructions, "answer_format": "", "demonstrations": [["1 + 1", "2"]]}
    )
    workflow = grammar.complete((), draw(st.integers(0, 500)))
    length = draw(st.integers(0, len(workflow) - 1))
    code = draw(_code(workflow, length))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return Written(workflow, workflow.prefix(length), draw(_wrapped(code)).replace("\n", newline))


@st.composite
def _code(draw: st.DrawFn, workflow: Workflow, length: int) -> str:
    """The whole class, or only what is new: in a class, or as statements at some margin."""
    new = workflow.steps[length:]
    header = draw(st.sampled_from(_HEADERS))
    if draw(st.booleans()):
        whole = _blocks(workflow.steps, header, range(1, len(workflow) + 1), 8)
        return _modules(workflow.steps) + workflow.preamble + whole
    first = draw(st.sampled_from([1, length + 1, length + 3]))
    gap = draw(st.integers(1, 2))
    numbers = range(first, first + gap * len(new), gap)
    known = {step.module for step in workflow.steps[:length]}
    modules = _modules(step for step in new if step.module not in known)
    if modules:
        return modules + "class Workflow:\n" + _METHOD + _blocks(new, header, numbers, 8)
    return _blocks(new, header, numbers, draw(st.sampled_from([0, 3, 4, 8])))


@st.composite
def _wrapped(draw: st.DrawFn, code: str) -> str:
    """The code between fences with prose around it, or bare."""
    if draw(st.integers(0, 5)) == 0:
        return code
    fence = draw(st.sampled_from(_FENCES))
    end = fence[: len(fence) - len(fence.lstrip("`~"))]
    return draw(st.sampled_from(_BEFORE)) + (
        f"{fence}\n{code}{end}\n" + draw(st.sampled_from(_AFTER))
    )


def _modules(steps: Iterable[Step]) -> str:
    modules = dict.fromkeys(step.module for step in steps if step.module)
    return "".join(f"{module}\n\n" for module in modules)


def _blocks(steps: Iterable[Step], header: str, numbers: Iterable[int], margin: int) -> str:
    return "\n".join(
        f"{' ' * margin}{header.format(number, step.title)}\n{indent_code(step.body, margin)}"
        for number, step in zip(numbers, steps, strict=False)
    )

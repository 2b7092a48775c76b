"""What the optimizer is asked: versioned templates (package data) and how they are filled.

`shared_text` is the same for every question of a run, so providers can cache it; the questions
follow it. `<<name>>` in a template is replaced once, so a value may hold anything. Text from
datasets, models and logs is quoted: each line of data begins with `| `, code stands in a fence that
is longer than any inside it. No text numbers the draws: equal questions are independent draws from
the same law. Called by the prior, the refiner and `correction`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from typing import Final, Literal, NamedTuple

from bayesflow_sampler.grammar import PREAMBLE
from bayesflow_sampler.types import Candidate, Workflow

__all__ = [
    "Demonstration",
    "PromptTemplates",
    "TaskBrief",
    "Trace",
    "continue_question",
    "critique_question",
    "edit_question",
    "empty_prefix",
    "load_templates",
    "repair_question",
    "shared_text",
]

Tier = Literal["strong", "cheap"]

VERSION: Final = "3"
HISTORY: Final = 40  # workflows that a question lists
_SLOT: Final = re.compile(r"<<(\w+)>>")
_CODE_LIMIT: Final = 20_000
_TEXT_LIMIT: Final = 2_000
_CODING_PREAMBLE: Final = PREAMBLE.replace("(self, problem)", "(self, problem, entry_point)")


@dataclass(frozen=True, slots=True)
class PromptTemplates:
    """The texts of `prompts/*.md`, one a field; a run keeps the ones it started with.

    Attributes:
        version: Names the set; a changed text is a new version.
        shared: The task and the rules.
        call_llm: The helper that asks the executor (paper Figure 3).
        strong: What its parameter `tier` can name, where the user allows it.
        cheap: Likewise.
        exec_code: The helper that runs public tests (paper Figure 4), and the answer's form.
        example: A workflow that shows the form.
        code_example: The same for tasks with public tests.
        begin: Asks for a whole workflow.
        continue_: Asks for the rest of a begun one.
        last: Says that the next step must finish it.
        repair: Asks again, with the answer that failed and why.
        critique: Asks what goes wrong (the textual gradient).
        edit: Asks for one consequential edit.
        partner: A second workflow to cross the first with.
        history: The workflows so far.
        tried: An edit that is already known.
    """

    version: str
    shared: str
    call_llm: str
    strong: str
    cheap: str
    exec_code: str
    example: str
    code_example: str
    begin: str
    continue_: str
    last: str
    repair: str
    critique: str
    edit: str
    partner: str
    history: str
    tried: str


class Demonstration(NamedTuple):
    """An example of the task, cut to a length that a prompt can bear.

    Attributes:
        input: The problem.
        answer: The expected answer, or None if the example has none.
    """

    input: str
    answer: str | None


@dataclass(frozen=True, slots=True)
class TaskBrief:
    """What the optimizer is told of the task.

    Attributes:
        instructions: The user's words.
        scoring: One line on how answers are scored.
        policy: The Python that a workflow may use, as the sandbox's policy prints it.
        rounds: T, the most steps of a workflow.
        answer_format: The user's words on the answer's form, or None.
        examples: A few examples. Their text is data and may be hostile.
        tiers: The model tiers that a workflow may name.
        public_tests: Whether problems bring public tests and an entry point (`exec_code`).
    """

    instructions: str
    scoring: str
    policy: str
    rounds: int
    answer_format: str | None = None
    examples: tuple[Demonstration, ...] = ()
    tiers: frozenset[Tier] = frozenset()
    public_tests: bool = False


class Trace(NamedTuple):
    """What a workflow did with one problem.

    Attributes:
        input: The problem.
        gold: The expected answer, or None.
        answer: What the workflow answered, or None.
        score: Its score in [0, 1].
        error: Why it failed, or None.
        trace: Its LLM calls as text, cut.
    """

    input: str
    gold: str | None
    answer: str | None
    score: float
    error: str | None
    trace: str


def load_templates() -> PromptTemplates:
    """The templates of this release."""
    folder = resources.files("bayesflow_sampler").joinpath("prompts")
    names = [field.name for field in fields(PromptTemplates) if field.name != "version"]
    return PromptTemplates(
        VERSION,
        *(folder.joinpath(f"{name.rstrip('_')}.md").read_text("utf-8") for name in names),
    )


def empty_prefix(brief: TaskBrief) -> Workflow:
    """What every workflow for the task begins with: the skeleton without a step."""
    return Workflow(_CODING_PREAMBLE if brief.public_tests else PREAMBLE, ())


def shared_text(templates: PromptTemplates, brief: TaskBrief) -> str:
    """The part of a prompt that is the same for every question of a run."""
    call = _call_llm(templates, brief)
    helpers = [call, templates.exec_code] if brief.public_tests else [call]
    example = templates.code_example if brief.public_tests else templates.example
    answer_format = f"\nForm of the answer: {brief.answer_format}\n" if brief.answer_format else ""
    return _fill(
        templates.shared,
        {
            "instructions": brief.instructions.strip(),
            "answer_format": answer_format,
            "scoring": brief.scoring,
            "examples": _examples(brief.examples),
            "helpers": "\n".join(helpers).strip(),
            "policy": brief.policy.strip(),
            "preamble": empty_prefix(brief).preamble.rstrip(),
            "rounds": str(brief.rounds),
            "example": _code(example),
        },
    )


def continue_question(templates: PromptTemplates, brief: TaskBrief, prefix: Workflow) -> str:
    """Asks for all steps behind the prefix: the next step, and the rest as a rollout.

    A further rollout of s_{1:t} is asked for in the words that ask for step t + 1, so that its law
    is as near to the later steps' as a chat allows.
    """
    step = str(len(prefix) + 1)
    last = _fill(templates.last, {"step": step}) if len(prefix) + 1 >= brief.rounds else ""
    if not len(prefix):
        return _fill(templates.begin, {"last": last})
    slots = {
        "prefix": _code(prefix.source),
        "step": step,
        "last": last,
        "arguments": "self, problem, entry_point" if brief.public_tests else "self, problem",
    }
    return _fill(templates.continue_, slots)


def repair_question(templates: PromptTemplates, question: str, code: str, error: str) -> str:
    """Asks a question again, with the answer that cannot be used and the reason (paper §5)."""
    shown = _code(code) if code.strip() else "(nothing)"
    slots = {"question": question.rstrip(), "code": shown, "error": _quoted(error)}
    return _fill(templates.repair, slots)


def critique_question(
    templates: PromptTemplates, parent: Candidate, traces: Sequence[Trace]
) -> str:
    """Asks what goes wrong on the problems where the workflow did worst."""
    shown = "\n\n".join(_trace(number, trace) for number, trace in enumerate(traces, start=1))
    if not shown:
        shown = _quoted(parent.evaluation.failure or "(no problem was recorded)")
    return _fill(templates.critique, {"traces": shown, **_scored(parent)})


def edit_question(
    templates: PromptTemplates,
    brief: TaskBrief,
    parents: Sequence[Candidate],
    critique: str,
    history: Sequence[Candidate] = (),
    tried: Sequence[Workflow] = (),
) -> str:
    """Asks for one consequential edit.

    Args:
        templates: The run's templates.
        brief: The task.
        parents: The workflow to edit, and perhaps one to cross it with.
        critique: The answer to `critique_question`.
        history: The pool in the order of creation, if the edit is to go on from it.
        tried: Edits that are known already.
    """
    slots = {
        **_scored(parents[0]),
        "critique": _quoted(critique or "(nothing)"),
        "partner": "".join(_fill(templates.partner, _scored(other)) for other in parents[1:]),
        "history": _fill(templates.history, {"entries": _entries(history)}) if history else "",
        "tried": "".join(
            _fill(templates.tried, {"workflow": _code(workflow.source)}) for workflow in tried
        ),
        "rounds": str(brief.rounds),
    }
    return _fill(templates.edit, slots)


def _fill(template: str, slots: Mapping[str, str]) -> str:
    """Replaces each `<<name>>` once; what a value holds is never looked at again."""
    return _SLOT.sub(lambda match: slots[match[1]], template)


def _call_llm(templates: PromptTemplates, brief: TaskBrief) -> str:
    lines: dict[Tier, str] = {"strong": templates.strong, "cheap": templates.cheap}
    offered = {tier: line for tier, line in lines.items() if tier in brief.tiers}
    names = ", ".join(f'"{tier}"' for tier in offered)
    slots = {
        "tier": f"\n    tier: Literal[{names}] | None = None," if offered else "",
        "tiers": "".join(offered.values()),
    }
    return _fill(templates.call_llm, slots)


def _scored(candidate: Candidate) -> dict[str, str]:
    return {
        "workflow": _code(candidate.workflow.source),
        "score": f"{candidate.evaluation.mean:.3f}",
    }


def _examples(examples: Sequence[Demonstration]) -> str:
    if not examples:
        return "(none)"
    return "\n\n".join(
        f"Example {number}, {label}:\n\n{_quoted(text)}"
        for number, example in enumerate(examples, start=1)
        for label, text in (("input", example.input), ("expected answer", example.answer))
        if text is not None
    )


def _trace(number: int, trace: Trace) -> str:
    blocks = [
        ("input", trace.input),
        ("expected answer", trace.gold),
        ("answer of the workflow", trace.answer),
        ("error", trace.error),
        ("model calls", trace.trace or None),
    ]
    shown = "\n\n".join(
        f"Problem {number}, {label}:\n\n{_quoted(text)}" for label, text in blocks if text
    )
    return f"Problem {number}, score: {trace.score:.3f}\n\n{shown}"


def _entries(history: Sequence[Candidate]) -> str:
    skipped = max(len(history) - HISTORY, 0)
    lines = [f"({skipped} earlier ones)"] if skipped else []
    for number, candidate in enumerate(history[skipped:], start=skipped + 1):
        titles = "; ".join(step.title for step in candidate.workflow.steps)
        lines.append(_quoted(f"{number}. score {candidate.evaluation.mean:.3f}: {titles}"))
    return "\n".join(lines)


def _quoted(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Data: a margin in front of every line, whatever the data takes for a line's end."""
    return "\n".join(f"| {line}" for line in _cut(text, limit).splitlines() or [""])


def _code(source: str) -> str:
    """Code in a fence that is longer than any run of backticks inside it."""
    longest = max((len(run) for run in re.findall("`+", source)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{_cut(source, _CODE_LIMIT).rstrip()}\n{fence}"


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters, then what is missing; lone surrogates cannot be sent."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more characters)"

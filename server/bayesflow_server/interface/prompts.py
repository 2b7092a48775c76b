"""Prompts that a person picks in a host: optimise a task, explain a pool, improve a workflow.

Their texts are `prompts/*.md`. A line `?tool,other: text` is said only where these tools are
offered. What a caller gives is put between two marks that do not occur in it, so that it cannot end
its own block; workflows are enclosed as resources.
"""

import re
from collections.abc import Collection, Mapping
from hashlib import blake2b
from importlib import resources
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    ContentBlock,
    EmbeddedResource,
    GetPromptResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from bayesflow_server.errors import InputError, NotFoundError, ServerError
from bayesflow_server.excerpt import excerpt
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.uris import events_uri, pool_uri, run_uri, workflow_uri

if TYPE_CHECKING:
    from bayesflow_server.runs.service import RunService
    from bayesflow_server.store.records import RunRecord

__all__ = ["EXPLAIN", "IMPROVE", "OPTIMISE", "Prompts", "data_block"]

OPTIMISE: Final = "optimise_my_task"
EXPLAIN: Final = "explain_pool"
IMPROVE: Final = "improve_by_hand"

_LONGEST: Final = 20_000
_SHOWN: Final = 60
_RUN: Final = PromptArgument(
    name="run_id", title="Run", description="The run's id, `run_…`.", required=True
)


class _Form(NamedTuple):
    """A prompt and the tools without which it makes no sense."""

    prompt: Prompt
    needs: tuple[str, ...]


_FORMS: Final = (
    _Form(
        Prompt(
            name=OPTIMISE,
            title="Optimise my task",
            description="Finds the best LLM workflow for a task with examples, and says honestly "
            "how good it is.",
            arguments=[
                PromptArgument(
                    name="task",
                    title="Task",
                    description="What a workflow is to do, in your own words.",
                    required=True,
                ),
                PromptArgument(
                    name="examples",
                    title="Examples",
                    description="Absolute path of a JSONL, JSON or CSV file with inputs and right "
                    "answers.",
                ),
                PromptArgument(
                    name="executor",
                    title="Model",
                    description="The model that workflows call, as anthropic:claude-haiku-5-5.",
                ),
                PromptArgument(
                    name="optimizer",
                    title="Writer",
                    description="What writes the workflows: a model, `client` (this agent) or "
                    "`grammar`.",
                ),
                PromptArgument(
                    name="budget",
                    title="Budget",
                    description="What it may cost, such as `2 USD` or `5000 calls`.",
                ),
            ],
        ),
        ("check_task", "start_bayesflow_run", "get_run", "get_best_workflow"),
    ),
    _Form(
        Prompt(
            name=EXPLAIN,
            title="Explain this pool",
            description="What a run has found: which kinds of workflows, how sure, at what cost.",
            arguments=[_RUN],
        ),
        ("get_run", "get_pool"),
    ),
    _Form(
        Prompt(
            name=IMPROVE,
            title="Improve this workflow by hand",
            description="Reads a workflow's mistakes, changes it step by step, and measures "
            "whether it got better.",
            arguments=[
                _RUN,
                PromptArgument(
                    name="workflow_id",
                    title="Workflow",
                    description="Its id, `wf_…`; left out, the run's best.",
                ),
            ],
        ),
        ("evaluate_workflow",),
    ),
)
# How an argument of `OPTIMISE` is headed in the text.
_HEADS: Final = {
    "task": "The task",
    "examples": "Path of the examples",
    "executor": "The model that workflows call (`executor`)",
    "optimizer": "What writes the workflows (`optimizer`)",
    "budget": "What it may cost (`budget`)",
}


class Prompts:
    """Lists and writes the prompts that the offered tools allow."""

    def __init__(self, backend: Backend, offered: Collection[str]) -> None:
        """Reads no text yet.

        Args:
            backend: For the runs that prompts are about.
            offered: Names of the tools.
        """
        self._backend = backend
        self._offered = offered

    def listed(self) -> list[Prompt]:
        """The prompts a person may pick."""
        offered = set(self._offered)
        return [form.prompt for form in _FORMS if offered.issuperset(form.needs)]

    async def get(self, name: str, arguments: Mapping[str, str]) -> GetPromptResult:
        """The prompt's messages.

        Raises:
            MCPError: There is no such prompt, run or workflow, or an argument is wrong.
        """
        prompt = self._named(name)
        _check(prompt, arguments)
        try:
            content = await self._content(name, arguments)
        except (NotFoundError, InputError) as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error
        except ServerError as error:
            raise MCPError(INTERNAL_ERROR, str(error)) from error
        return GetPromptResult(
            description=prompt.description,
            messages=[PromptMessage(role="user", content=block) for block in content],
        )

    def _named(self, name: str) -> Prompt:
        listed = {prompt.name: prompt for prompt in self.listed()}
        if name not in listed:
            known = f"there are {', '.join(listed)}" if listed else "this server offers none"
            raise MCPError(
                INVALID_PARAMS, f"There is no prompt {excerpt(name, _SHOWN)!r}; {known}."
            )
        return listed[name]

    async def _content(self, name: str, arguments: Mapping[str, str]) -> list[ContentBlock]:
        if name == OPTIMISE:
            blocks = {
                key: data_block(head, arguments[key]) if arguments.get(key) else ""
                for key, head in _HEADS.items()
            }
            return [self._text(name, blocks)]
        service = await self._backend.runs()
        record = await service.record(arguments["run_id"].strip())
        if name == EXPLAIN:
            return [self._text(name, {"run_id": record.run_id}), *_links(record.run_id)]
        workflow_id = arguments.get("workflow_id", "").strip() or _best(record)
        workflow = await service.workflow(workflow_id)
        await _check_pool(service, record.run_id, workflow_id)
        ids = {"run_id": record.run_id, "workflow_id": workflow.workflow_id}
        enclosed = TextResourceContents(
            uri=workflow_uri(workflow.workflow_id), mime_type="text/x-python", text=workflow.source
        )
        return [
            self._text(name, ids),
            EmbeddedResource(resource=enclosed),
            *_links(record.run_id),
        ]

    def _text(self, name: str, values: Mapping[str, str]) -> TextContent:
        folder = resources.files("bayesflow_server.interface").joinpath("prompts")
        template = folder.joinpath(f"{name}.md").read_text("utf-8")
        return TextContent(text=_filled(_offered_lines(template, self._offered), values))


def data_block(head: str, text: str) -> str:
    """The text between two marks that do not occur in it, below a line that says what it is.

    The mark is a digest of the text, so that the same prompt is the same text every time.
    """
    marks = (
        blake2b(f"{attempt}{text}".encode("utf-8", "replace"), digest_size=6).hexdigest()
        for attempt in count()
    )
    mark = next(mark for mark in marks if mark not in text)
    return f"{head}, all that stands between the marks:\n<data-{mark}>\n{text}\n</data-{mark}>"


def _check(prompt: Prompt, arguments: Mapping[str, str]) -> None:
    known = prompt.arguments or []
    names = [argument.name for argument in known]
    takes = f"{prompt.name} takes {', '.join(names)}."
    for name, value in arguments.items():
        if name not in names:
            raise MCPError(
                INVALID_PARAMS,
                f"The prompt {prompt.name} has no argument {excerpt(name, _SHOWN)!r}; {takes}",
            )
        if len(value) > _LONGEST:
            raise MCPError(
                INVALID_PARAMS,
                f"`{name}` has {len(value)} characters; at most {_LONGEST} fit into a prompt.",
            )
    for argument in known:
        if argument.required and not arguments.get(argument.name, "").strip():
            raise MCPError(INVALID_PARAMS, f"`{argument.name}` is missing; {takes}")


def _best(record: "RunRecord") -> str:
    """The run's winner, or its best so far."""
    from bayesflow_server.evaluation.report import FinalReport
    from bayesflow_server.runs.progress import Phase

    if record.outcome:
        return FinalReport.model_validate_json(record.outcome).best[0].workflow_id
    phase = Phase.model_validate_json(record.phase) if record.phase else Phase()
    if phase.best_so_far is None:
        raise InputError(
            f"{record.run_id} has no workflow yet; wait until its first round has finished, or "
            "name a `workflow_id`."
        )
    return phase.best_so_far.workflow_id


async def _check_pool(service: "RunService", run_id: str, workflow_id: str) -> None:
    found = await service.workplace.store.workflow_ids(workflow_id, 1, run_id)
    if workflow_id not in found.ids:
        raise InputError(
            f"The workflow {workflow_id} is not in the pool of {run_id}; get_pool or the resource "
            f"{pool_uri(run_id)} shows which are."
        )


def _links(run_id: str) -> list[ContentBlock]:
    named = (
        ("state", "The run's state", run_uri(run_id)),
        ("pool", "Its whole pool", pool_uri(run_id)),
        ("events", "Its story", events_uri(run_id)),
    )
    return [
        ResourceLink(name=name, title=title, uri=uri, mime_type="application/json")
        for name, title, uri in named
    ]


def _offered_lines(template: str, offered: Collection[str]) -> str:
    """The template without the lines that speak of tools which are not offered, renumbered."""
    lines: list[str] = []
    number = 0
    for line in template.splitlines():
        conditional = re.fullmatch(r"\?([a-z_,]+):(.*)", line)
        if conditional and not set(conditional[1].split(",")) <= set(offered):
            continue
        text = conditional[2] if conditional else line
        if step := re.fullmatch(r"\d+\. (.*)", text):
            number += 1
            text = f"{number}. {step[1]}"
        lines.append(text)
    return "\n".join(lines) + "\n"


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with its `{{names}}` replaced at once: a value is never searched for names."""
    text = re.sub(r"\{\{(\w+)\}\}\n?", lambda name: _line(values[name[1]], name[0]), template)
    return text.strip() + "\n"


def _line(value: str, place: str) -> str:
    """The value; a place that fills a line vanishes with it if there is nothing to put there."""
    return value + "\n" if value and place.endswith("\n") else value

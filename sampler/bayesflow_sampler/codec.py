"""Workflows, edits and decisions as JSON text, for journals and stores."""

import json
from collections.abc import Sequence
from typing import cast

from bayesflow_sampler.ports import Edit
from bayesflow_sampler.types import Decision, Step, Workflow

__all__ = [
    "decode_decision",
    "decode_edit",
    "decode_workflow",
    "decode_workflows",
    "encode_decision",
    "encode_edit",
    "encode_workflow",
    "encode_workflows",
]


def encode_workflow(workflow: Workflow) -> str:
    """The workflow as JSON: preamble, indent, and [title, body, module] for each step."""
    return json.dumps(
        {
            "preamble": workflow.preamble,
            "indent": workflow.indent,
            "steps": [[step.title, step.body, step.module] for step in workflow.steps],
        }
    )


def decode_workflow(text: str) -> Workflow:
    """The workflow that `encode_workflow` wrote."""
    data = json.loads(text)
    steps = cast("list[list[str]]", data["steps"])
    return Workflow(data["preamble"], tuple(Step(*step) for step in steps), data["indent"])


def encode_workflows(workflows: Sequence[Workflow]) -> str:
    """The workflows as a JSON list."""
    return json.dumps([encode_workflow(workflow) for workflow in workflows])


def decode_workflows(text: str) -> tuple[Workflow, ...]:
    """The workflows that `encode_workflows` wrote."""
    return tuple(decode_workflow(one) for one in cast("list[str]", json.loads(text)))


def encode_edit(edit: Edit) -> str:
    """The edit as JSON."""
    return json.dumps({"parent": edit.parent_id, "workflow": encode_workflow(edit.workflow)})


def decode_edit(text: str) -> Edit:
    """The edit that `encode_edit` wrote."""
    data = json.loads(text)
    return Edit(decode_workflow(data["workflow"]), data["parent"])


def encode_decision(decision: Decision | None) -> str:
    """The decision as a JSON list of its three parts, or null."""
    return json.dumps(decision)


def decode_decision(text: str) -> Decision | None:
    """The decision that `encode_decision` wrote."""
    parts = cast("list[str] | None", json.loads(text))
    return None if parts is None else Decision(*parts)

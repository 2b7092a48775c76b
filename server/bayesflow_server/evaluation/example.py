"""One row of a task: `Example` as users write it, `Row` as the server holds it.

An input of several named fields reaches a workflow as one text: each field as ``name: text``, in
the order given, with a blank line between two fields (`render_inputs`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = ["SPLITS", "Example", "Row", "Split", "Target", "render_inputs", "value_text"]

Split = Literal["demonstration", "validation", "selection", "test"]
SPLITS: tuple[Split, ...] = ("demonstration", "validation", "selection", "test")

Target: TypeAlias = str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None


class Example(BaseModel):
    """One row under our field names; rows with other names come as plain objects with `fields`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str | dict[str, str] = Field(description="The question, or several named texts.")
    target: Target = Field(
        default=None, description="The expected answer; a list holds equally good answers."
    )
    id: str | int | None = Field(
        default=None, description="Unique; made from the content if absent."
    )
    split: str | None = Field(
        default=None, description="demonstration (train), validation (dev, val), selection or test."
    )
    meta: dict[str, JsonValue] = Field(
        default_factory=dict, description="Anything else; rows of one meta.group stay together."
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One checked row.

    Attributes:
        id: Unique within the dataset.
        problem: The text a workflow receives.
        target: The expected answer; None where there is none; a list holds equally good answers.
        inputs: The named inputs that `problem` renders; empty where the input was one text.
        split: The split the row asked for, or None.
        group: Rows of one group never part; None stands for a group of its own.
        meta: All other fields of the row; no workflow sees them.
    """

    id: str
    problem: str
    target: Target = None
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    split: Split | None = None
    group: str | None = None
    meta: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])


def render_inputs(inputs: Mapping[str, str]) -> str:
    """Renders named inputs as the one text that a workflow receives."""
    return "\n\n".join(f"{name}: {text}" for name, text in inputs.items())


def value_text(value: JsonValue) -> str:
    """A field's value as text: strings as they stand, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

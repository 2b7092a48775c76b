"""A run's specification: all that its result depends on, resolved and pinned in the store.

Rows are pinned beside it. Nothing is looked up again when a run is resumed, so editing the dataset,
the grammar or the defaults changes no run that has begun.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import astuple

from pydantic import BaseModel, ConfigDict

from bayesflow_sampler.operators import Operator
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.prompts import PromptTemplates
from bayesflow_server.evaluation.example import SPLITS, Row, Split
from bayesflow_server.evaluation.scorers import PassAt1, Scorer
from bayesflow_server.evaluation.task import Preset, Task
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.runs.options import Tier
from bayesflow_server.runs.rehearsed import Rehearsal
from bayesflow_server.runs.roles import CLIENT, Roles
from bayesflow_server.runs.zero_shot import zero_shot
from bayesflow_server.store.records import RowRecord

__all__ = [
    "RunSpec",
    "baseline_source",
    "pinned_row",
    "pinned_rows",
    "request_hash",
    "rows_of_split",
]


class RunSpec(BaseModel):
    """What a run does.

    Attributes:
        instructions: The task in the user's words.
        answer_format: How an answer must look, or None.
        scorer: Scores an answer.
        executor: Model that the workflows call.
        optimizer: What writes the workflows: a model, `grammar` or `client`.
        refiner: What edits them: likewise.
        judge: Model that grades answers, or None.
        tiers: Models that a workflow may call by name.
        operator: Which workflows the refiner edits.
        temperature: Of the optimizer and refiner; None is the model's own.
        cost_weight: λ of the reward; 0: cost does not count.
        cost_cap_usd: c_max of the reward, USD per example, or None where cost does not count.
        prompts: The texts that ask an optimizer; None for a grammar.
        policy: The allowed Python, as those texts print it.
        grammar: TOML text of the grammar, or None for the built-in one.
        baseline: Source of the workflow to beat.
        own_baseline: Whether the user gave it; else it is the zero-shot prompt.
        preset: Where the options come from.
        options: The search's settings, resolved.
        budget: What may be spent.
        seed: Every random draw depends on it and on nothing else.
        name: What people call the run.
        fields: Our name → the dataset's field.
        guesses: What was guessed, a sentence each.
        public_tests: Field of a row's meta data with the tests that `exec_code` runs, or None.
        warm: Sources of complete workflows that the search starts with.
        rehearsal: What executions were measured to ask before the start; None in older runs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instructions: str
    answer_format: str | None
    scorer: Scorer
    executor: str
    optimizer: str
    refiner: str = "grammar"
    judge: str | None = None
    tiers: dict[Tier, str] = {}
    operator: Operator = "best"
    temperature: float | None = None
    cost_weight: float = 0.0
    cost_cap_usd: float | None = None
    prompts: PromptTemplates | None = None
    policy: str = ""
    grammar: str | None
    baseline: str
    own_baseline: bool
    preset: Preset
    options: SearchOptions
    budget: BudgetLimits
    seed: int
    name: str | None
    fields: dict[str, str]
    guesses: tuple[str, ...]
    public_tests: str | None = None
    warm: tuple[str, ...] = ()
    rehearsal: Rehearsal | None = None

    @property
    def roles(self) -> Roles:
        """Which model does what."""
        return Roles(self.executor, self.optimizer, self.refiner, self.judge, self.tiers)

    @property
    def asks_client(self) -> bool:
        """Whether the run puts questions to its client."""
        return CLIENT in (self.optimizer, self.refiner)

    @property
    def prior_independent(self) -> bool:
        """Whether the prior's draws are independent: not those of one agent."""
        return self.optimizer != CLIENT


def baseline_source(task: Task) -> str:
    """The workflow to beat: the user's, the user's prompt, or the instructions zero-shot."""
    if task.baseline is not None and re.search(r"^class Workflow\b", task.baseline, re.MULTILINE):
        return task.baseline
    prompt = task.baseline or task.instructions
    if task.answer_format and task.baseline is None:
        prompt = f"{prompt}\n{task.answer_format}"
    coding = isinstance(task.scorer, PassAt1) or task.public_tests is not None
    return zero_shot(prompt, None if task.baseline is None else _inputs(task), coding=coding)


def _inputs(task: Task) -> set[str]:
    """The names that a row's inputs have."""
    return {name for split in SPLITS for row in task.splits.of(split) for name in row.inputs}


def pinned_rows(task: Task) -> list[RowRecord]:
    """The task's rows as the store keeps them."""
    return [
        pinned_row(split, position, row)
        for split in SPLITS
        for position, row in enumerate(task.splits.of(split))
    ]


def pinned_row(split: Split, position: int, row: Row) -> RowRecord:
    """One row as the store keeps it."""
    return RowRecord(
        split=split,
        position=position,
        row_id=row.id,
        input=json.dumps(row.problem),
        target=json.dumps(row.target),
        meta=json.dumps(dict(row.meta)),
    )


def rows_of_split(records: list[RowRecord], split: str) -> list[Row]:
    """The rows of a split, in order."""
    return [
        Row(
            id=record.row_id,
            problem=json.loads(record.input),
            target=json.loads(record.target or "null"),
            meta=json.loads(record.meta),
        )
        for record in records
        if record.split == split
    ]


def request_hash(spec: RunSpec, rows: Sequence[RowRecord]) -> str:
    """Tells apart two runs by specification, rows and splits; not by what was measured."""
    pinned = spec.model_dump_json(exclude={"rehearsal"})
    digest = hashlib.blake2b(pinned.encode(), digest_size=16)
    for row in rows:
        digest.update(json.dumps(astuple(row)).encode())
    return digest.hexdigest()

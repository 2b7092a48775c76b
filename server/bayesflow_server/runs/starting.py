"""From a checked request to a run on disk: one for each idempotency key, however often asked.

`service.start` is the caller, and whoever asks its user in between.
"""

import json
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import SPLITS, Split
from bayesflow_server.excerpt import quoted
from bayesflow_server.runs.estimate import Estimate, estimate
from bayesflow_server.runs.preparation import Prepared
from bayesflow_server.runs.request import RunRequest, asked_hash
from bayesflow_server.runs.sitting import Workplace
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.store.errors import IdempotencyKeyError
from bayesflow_server.store.records import NewRun, RunRecord

__all__ = ["PutRun", "StartedRun", "known_run", "put_run", "started_run"]


@dataclass(frozen=True)
class StartedRun:
    """A run that has begun, or that an earlier equal request began.

    Attributes:
        record: The run as stored.
        spec: What it does.
        estimate: What it may take at most, as reckoned before its start.
        warnings: What is odd but allowed, a sentence each.
        sizes: Rows of each split.
    """

    record: RunRecord
    spec: RunSpec
    estimate: Estimate
    warnings: tuple[str, ...]
    sizes: Mapping[Split, int]


class PutRun(NamedTuple):
    """A run on disk.

    Attributes:
        run_id: Its id.
        is_new: Whether nobody began it before.
    """

    run_id: str
    is_new: bool


async def known_run(request: RunRequest, workplace: Workplace) -> RunRecord | None:
    """The run that an equal request under the same key began before; no model is tried for it.

    Raises:
        InputError: The key belongs to another request.
    """
    key = request.idempotency_key
    record = None if key is None else await workplace.store.run_by_idempotency_key(key)
    if record is not None and record.request_hash != asked_hash(request):
        raise InputError(
            f"The idempotency key {quoted(key)} belongs to {record.run_id}, whose request differs; "
            "use another key for another request."
        )
    return record


async def put_run(request: RunRequest, prepared: Prepared, workplace: Workplace) -> PutRun:
    """Puts a run on disk, unless an equal request under the same key did so meanwhile.

    Raises:
        InputError: Another request took the key meanwhile; nothing was written.
    """
    run = NewRun(
        run_id="run_" + uuid.uuid4().hex[:12],
        request=prepared.spec.model_dump_json(),
        request_hash=asked_hash(request),
        name=request.name,
        idempotency_key=request.idempotency_key,
        warnings=json.dumps(prepared.warnings),
    )
    try:
        await workplace.store.create_run(run, prepared.rows)
    except IdempotencyKeyError:
        known = await known_run(request, workplace)
        if known is None:
            raise
        return PutRun(known.run_id, is_new=False)
    return PutRun(run.run_id, is_new=True)


async def started_run(record: RunRecord, workplace: Workplace) -> StartedRun:
    """A run of the store, as its start tells of it: the same whenever it is told."""
    spec = RunSpec.model_validate_json(record.request)
    rows = Counter(row.split for row in await workplace.store.rows(record.run_id))
    sizes: dict[Split, int] = {split: rows[split] for split in SPLITS}
    return StartedRun(
        record=record,
        spec=spec,
        estimate=estimate(spec, sizes, workplace.gateway.prices, spec.rehearsal),
        warnings=tuple(json.loads(record.warnings)),
        sizes=sizes,
    )

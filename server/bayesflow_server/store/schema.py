"""The tables, as numbered migrations under ``PRAGMA user_version``.

To change the schema, append a function ``mNNN_what_it_does(db)`` under `@migration`; never edit one
that was released. All that a file lacks run in one transaction, so it has all of them or none.
"""

from collections.abc import Awaitable, Callable

import aiosqlite

__all__ = ["APPLICATION_ID", "MIGRATIONS", "migrate"]

# Marks a SQLite file as ours ("BFLO"), so that no other program's database is ever touched.
APPLICATION_ID = 0x42464C4F

Migration = Callable[[aiosqlite.Connection], Awaitable[None]]
MIGRATIONS: list[Migration] = []


def migration(function: Migration) -> Migration:
    """Appends the function to `MIGRATIONS`; its place there is its number."""
    MIGRATIONS.append(function)
    return function


async def migrate(db: aiosqlite.Connection, version: int) -> None:
    """Runs every migration above ``version``, and writes the version even if there is none.

    The caller holds the write transaction.
    """
    for step in MIGRATIONS[version:]:
        await step(db)
    await db.execute_fetchall(f"PRAGMA user_version = {len(MIGRATIONS)}")


@migration
async def m001_initial(db: aiosqlite.Connection) -> None:
    """Everything of the first release."""
    await db.execute_fetchall(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in INITIAL.split(";"):
        await db.execute_fetchall(statement)


@migration
async def m002_proposals_rewards_outcomes(db: aiosqlite.Connection) -> None:
    """Questions to the agent that optimises, workflows handed in, and what the scores gained."""
    for statement in PROPOSALS.split(";"):
        await db.execute_fetchall(statement)


@migration
async def m003_traces(db: aiosqlite.Connection) -> None:
    """What an execution asked its models, for the refiner."""
    await db.execute_fetchall("ALTER TABLE executions ADD COLUMN trace TEXT NOT NULL DEFAULT ''")


@migration
async def m004_events_and_takeovers(db: aiosqlite.Connection) -> None:
    """A run's story with its times, and how often it was taken over without getting anywhere."""
    await db.execute_fetchall("ALTER TABLE runs ADD COLUMN takeovers INTEGER NOT NULL DEFAULT 0")
    for statement in EVENTS.split(";\n\n"):
        await db.execute_fetchall(statement)


# Written by triggers, so that no change of a run can be stored without its event. Whether a run
# waits for its client changes with every answer; that is no event.
EVENTS = """
CREATE TABLE events (
  run_id TEXT NOT NULL REFERENCES runs, position INTEGER NOT NULL,
  created REAL NOT NULL, kind TEXT NOT NULL, detail TEXT,
  PRIMARY KEY (run_id, position)
) STRICT;

INSERT INTO events SELECT run_id, 1, created, 'queued', NULL FROM runs;

INSERT INTO events SELECT run_id, 2, updated, status, reason FROM runs WHERE status <> 'queued';

CREATE TRIGGER run_begins AFTER INSERT ON runs BEGIN
  INSERT INTO events VALUES (NEW.run_id, 1, NEW.created, NEW.status, NEW.reason);
END;

CREATE TRIGGER run_changes AFTER UPDATE OF status, owner ON runs
WHEN (NEW.status IS NOT OLD.status
      AND NOT (NEW.status IN ('running', 'waiting_for_client')
               AND OLD.status IN ('running', 'waiting_for_client')))
  OR (NEW.owner IS NOT OLD.owner AND NEW.owner IS NOT NULL)
BEGIN
  INSERT INTO events SELECT NEW.run_id, COALESCE(MAX(position), 0) + 1, NEW.updated, NEW.status,
    CASE WHEN OLD.owner IS NOT NULL AND NEW.owner IS NOT NULL
      THEN 'Taken over: the process that worked on it is gone.' ELSE NEW.reason END
    FROM events WHERE run_id = NEW.run_id;
END;

CREATE TRIGGER round_ends AFTER INSERT ON rounds BEGIN
  INSERT INTO events SELECT NEW.run_id, COALESCE(MAX(position), 0) + 1,
    (julianday('now') - 2440587.5) * 86400.0, 'round', CAST(NEW.round AS TEXT)
    FROM events WHERE run_id = NEW.run_id;
  UPDATE runs SET takeovers = 0 WHERE run_id = NEW.run_id AND takeovers > 0;
END
"""

PROPOSALS = """
CREATE TABLE proposals (
  run_id TEXT NOT NULL REFERENCES runs, name TEXT NOT NULL, proposal_id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL, prompt TEXT NOT NULL, answer TEXT, given_until REAL,
  created REAL NOT NULL, answered REAL,
  PRIMARY KEY (run_id, name)
) STRICT;
CREATE TABLE submissions (
  run_id TEXT NOT NULL REFERENCES runs, position INTEGER NOT NULL,
  workflow_id TEXT NOT NULL, source TEXT NOT NULL, note TEXT, created REAL NOT NULL,
  PRIMARY KEY (run_id, position), UNIQUE (run_id, workflow_id)
) STRICT;
ALTER TABLE executions ADD COLUMN outcomes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE summaries ADD COLUMN reward REAL
"""

INITIAL = """
CREATE TABLE runs (
  run_id TEXT NOT NULL PRIMARY KEY, name TEXT, status TEXT NOT NULL, reason TEXT,
  request TEXT NOT NULL, request_hash TEXT NOT NULL, idempotency_key TEXT UNIQUE,
  revision INTEGER NOT NULL, owner TEXT, heartbeat REAL,
  created REAL NOT NULL, updated REAL NOT NULL, active_seconds REAL NOT NULL,
  phase TEXT, outcome TEXT, warnings TEXT NOT NULL
) STRICT;
CREATE INDEX runs_by_age ON runs (created, run_id);
CREATE INDEX runs_by_owner ON runs (owner) WHERE owner IS NOT NULL;

CREATE TABLE dataset_rows (
  scope TEXT NOT NULL, split TEXT NOT NULL, position INTEGER NOT NULL, row_id TEXT NOT NULL,
  input TEXT NOT NULL, target TEXT, meta TEXT NOT NULL,
  PRIMARY KEY (scope, split, position)
) STRICT;

CREATE TABLE draws (
  run_id TEXT NOT NULL REFERENCES runs, key TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (run_id, key)
) STRICT;

CREATE TABLE workflows (
  workflow_id TEXT NOT NULL PRIMARY KEY, source TEXT NOT NULL, steps TEXT NOT NULL
) STRICT;

CREATE TABLE pool (
  run_id TEXT NOT NULL REFERENCES runs, workflow_id TEXT NOT NULL REFERENCES workflows,
  round INTEGER NOT NULL, origin TEXT NOT NULL, parent_id TEXT, clean INTEGER NOT NULL,
  PRIMARY KEY (run_id, workflow_id)
) STRICT;

CREATE TABLE summaries (
  run_id TEXT NOT NULL, workflow_id TEXT NOT NULL, split TEXT NOT NULL,
  rows INTEGER NOT NULL, mean REAL NOT NULL, variance REAL NOT NULL,
  failed INTEGER NOT NULL, error TEXT, calls INTEGER NOT NULL, tokens INTEGER NOT NULL,
  cost_usd REAL, seconds REAL NOT NULL, replicate INTEGER NOT NULL,
  PRIMARY KEY (run_id, workflow_id, split, replicate)
) STRICT;

CREATE TABLE executions (
  scope TEXT NOT NULL, workflow_id TEXT NOT NULL, split TEXT NOT NULL,
  position INTEGER NOT NULL, row_id TEXT NOT NULL, answer TEXT, score REAL NOT NULL, error TEXT,
  calls INTEGER NOT NULL, cached_calls INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
  cost_usd REAL, seconds REAL NOT NULL, replicate INTEGER NOT NULL,
  PRIMARY KEY (scope, workflow_id, split, replicate, position)
) STRICT;

CREATE TABLE rounds (
  run_id TEXT NOT NULL REFERENCES runs, round INTEGER NOT NULL, stats TEXT NOT NULL,
  PRIMARY KEY (run_id, round)
) STRICT;

CREATE TABLE particles (
  run_id TEXT NOT NULL, round INTEGER NOT NULL, "index" INTEGER NOT NULL,
  workflow_id TEXT REFERENCES workflows, prefix_id TEXT NOT NULL, steps INTEGER NOT NULL,
  log_weight REAL NOT NULL, score REAL NOT NULL, ancestor INTEGER, clean INTEGER NOT NULL,
  PRIMARY KEY (run_id, round, "index"),
  FOREIGN KEY (run_id, round) REFERENCES rounds
) STRICT;

CREATE TABLE completions (
  key TEXT NOT NULL PRIMARY KEY, model TEXT NOT NULL, text TEXT NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
  cached_input_tokens INTEGER NOT NULL, stop_reason TEXT NOT NULL, dropped TEXT NOT NULL,
  created REAL NOT NULL
) STRICT;

CREATE TABLE usage (
  scope TEXT NOT NULL, role TEXT NOT NULL, model TEXT NOT NULL,
  calls INTEGER NOT NULL, cached_calls INTEGER NOT NULL, needed_calls INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost_usd REAL,
  PRIMARY KEY (scope, role, model)
) STRICT;

CREATE TABLE evaluations (
  evaluation_id TEXT NOT NULL PRIMARY KEY, workflow_id TEXT NOT NULL REFERENCES workflows,
  request TEXT NOT NULL, status TEXT NOT NULL, reason TEXT, report TEXT,
  created REAL NOT NULL, updated REAL NOT NULL
) STRICT
"""

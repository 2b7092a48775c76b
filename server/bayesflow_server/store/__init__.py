"""SQLite: schema, migrations, the single writer, and the queries."""

from bayesflow_server.store.errors import IdempotencyKeyError
from bayesflow_server.store.store import Store

__all__ = ["IdempotencyKeyError", "Store"]

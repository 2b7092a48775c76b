"""Errors of the store that a caller tells apart.

StoreError                  (bayesflow_server.errors)
└── IdempotencyKeyError     another run already has this key
"""

from bayesflow_server.errors import StoreError

__all__ = ["IdempotencyKeyError"]


class IdempotencyKeyError(StoreError):
    """Another run already has this idempotency key; nothing was written."""

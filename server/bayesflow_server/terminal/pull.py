"""`bayesflow-mcp pull`: fetch or register the weights of a local model."""

import sys
from pathlib import Path

from bayesflow_server.models.weights import pull

__all__ = ["pull_command"]


def pull_command(model: str, gguf: str | None) -> int:
    """Fetches the model's weights, or registers a GGUF file; prints where they are."""
    path = pull(model, gguf=Path(gguf) if gguf else None, progress=_print)
    _print(f"local:{model} is ready: {path}")
    return 0


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

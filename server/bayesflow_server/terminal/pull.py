"""`bayesflow-mcp pull`: fetch or register the weights of a local model."""

import sys
from pathlib import Path

from bayesflow_server.models.weights import cache_folder, pull

__all__ = ["pull_command"]


def pull_command(model: str, gguf: str | None) -> int:
    """Fetches the model's weights, or registers a GGUF file; prints where they are."""
    source = Path(gguf) if gguf else None
    pulled = pull(model, cache=cache_folder(), gguf=source, progress=_print)
    _print(f"local:{pulled.name} is ready: {pulled.path}")
    return 0


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

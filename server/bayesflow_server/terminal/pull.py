"""`bayesflow-mcp pull`: fetch or register the weights of a local model."""

from pathlib import Path

from bayesflow_server.models.weights import cache_folder, pull
from bayesflow_server.terminal.screen import open_console, say, write_json

__all__ = ["pull_command"]


def pull_command(model: str, gguf: str | None, *, as_json: bool = False) -> int:
    """Fetches the model's weights, or registers a GGUF file; prints where they are."""
    console = open_console(stderr=as_json)
    source = Path(gguf) if gguf else None
    pulled = pull(
        model,
        cache=cache_folder(),
        gguf=source,
        progress=lambda line: say(console, line),
    )
    if as_json:
        write_json({"model": f"local:{pulled.name}", "path": str(pulled.path)})
    else:
        say(console, f"local:{pulled.name} is ready: {pulled.path}", whole=True)
    return 0

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bayesflow_server.models.chat import ChatModel
from bayesflow_server.models.local import LocalModel
from bayesflow_server.models.weights import cache_folder, find_weights
from fakes.provider_wires import remote


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that ask the real model are slow ones: `make test` fetches no weights."""
    for item in items:
        if "smollm2" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real weights, where they were pulled."""
    weights = find_weights("smollm2", cache_folder())
    if weights is None:
        pytest.skip("needs the weights: bayesflow-mcp pull smollm2")
    pytest.importorskip("xllamacpp")
    return weights


@pytest.fixture
async def local_model(smollm2: Path, tmp_path: Path) -> AsyncIterator[Callable[..., LocalModel]]:
    """Builds models over the real weights with a lock of this test's own, and closes them."""
    async with AsyncExitStack() as closing:

        def build(**options: object) -> LocalModel:
            model = LocalModel("smollm2", smollm2, tmp_path, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            closing.push_async_callback(model.aclose)
            return model

        yield build


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., ChatModel]]:
    """Builds models as `fakes.provider_wires.remote` does, and closes their connections."""
    async with AsyncExitStack() as closing:

        def build(*arguments: object, **options: object) -> ChatModel:
            built = remote(*arguments, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            closing.push_async_callback(built.aclose)
            return built.model

        yield build

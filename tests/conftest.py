"""Which tests may run beside each other, where pytest-xdist is asked to run several at once."""

from pathlib import Path

import pytest

SAMPLER = Path(__file__).parent / "sampler"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The sampler's tests file by file; all others share one model, one lock and one worker."""
    for item in items:
        alone = item.path.is_relative_to(SAMPLER)
        item.add_marker(pytest.mark.xdist_group(item.path.stem if alone else "shared"))

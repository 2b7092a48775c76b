import importlib
import pkgutil
import subprocess
import sys

import pytest

import bayesflow_server.store

MODULES = [
    f"bayesflow_server.store.{module.name}"
    for module in pkgutil.iter_modules(bayesflow_server.store.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_the_public_names_of_a_module_are_listed_and_exist(name: str) -> None:
    module = importlib.import_module(name)
    assert all(hasattr(module, public) for public in module.__all__)


def test_importing_the_store_does_not_import_sqlite() -> None:
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; import bayesflow_server.store as s; s.Store; "
        "sys.exit(bool({'sqlite3', 'aiosqlite'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

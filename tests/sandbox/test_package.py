"""What holds for the package as a whole."""

import importlib
import inspect
import pkgutil
import sys
from types import ModuleType

import pytest

import bayesflow_sandbox

MODULES = sorted(
    module.name.removeprefix("bayesflow_sandbox.")
    for module in pkgutil.walk_packages(bayesflow_sandbox.__path__, "bayesflow_sandbox.")
)
# Run in locked processes alone, which only Linux has.
LINUX = {f"locked.{name}" for name in ("child", "judge", "lockdown", "solution", "zygote")}
# Source text that runs inside the interpreter: nothing in it is for the host.
INSIDE = {"statistics_shim"}


@pytest.mark.parametrize(
    "name", sorted(set(MODULES) - INSIDE - (set() if sys.platform == "linux" else LINUX))
)
def test_all_lists_every_public_name_of_the_module_in_order(name: str) -> None:
    module = importlib.import_module(f"bayesflow_sandbox.{name}")
    listed: list[str] = module.__all__
    assert listed == sorted(listed, key=_constants_then_classes)
    assert _defined(module) <= set(listed)
    assert all(hasattr(module, key) for key in listed)


def _defined(module: ModuleType) -> set[str]:
    return {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


def _constants_then_classes(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name

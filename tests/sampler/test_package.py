"""What holds for the package as a whole: its names, and what it needs to be imported."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import bayesflow_sampler

ROOT = Path(bayesflow_sampler.__file__).parent.parent
MODULES = sorted(module.name for module in pkgutil.iter_modules(bayesflow_sampler.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_every_public_name_of_the_module_in_order(name: str) -> None:
    module = importlib.import_module(f"bayesflow_sampler.{name}")
    public = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and not key.isupper()
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }

    assert list(module.__all__) == sorted(module.__all__, key=_constants_then_classes)
    assert public <= set(module.__all__)
    assert all(hasattr(module, key) for key in module.__all__)


def _constants_then_classes(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_importing_the_package_needs_the_standard_library_alone() -> None:
    """A fresh interpreter without site-packages imports every module; nothing else comes along."""
    program = (
        "import importlib, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"for name in {MODULES!r}: importlib.import_module('bayesflow_sampler.' + name)\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(roots - sys.stdlib_module_names - {'bayesflow_sampler', '__main__'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.strip() == "[]"
    assert done.stderr == ""

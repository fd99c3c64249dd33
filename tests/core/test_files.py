"""Atomic files and hashes."""

import hashlib
import json

import pytest

from helpers.messages import mentions
from pipelines.core import files
from pipelines.core.errors import StorageError


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError, match="stop"), files.atomic_path(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError("stop")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("sync", [False, True])
def test_the_file_is_there_when_the_block_has_ended(tmp_path, sync):
    path = tmp_path / "a.bin"
    with files.atomic_path(path, sync=sync) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_line_ends_stay_as_they_are(tmp_path):
    files.write_text(tmp_path / "a.csv", "a\r\nb\n")
    assert (tmp_path / "a.csv").read_bytes() == b"a\r\nb\n"


def test_a_document_is_read_as_it_was_written(tmp_path):
    document = {"name": "Grüße", "values": [1, None]}
    files.write_json(tmp_path / "a.json", document)
    assert files.read_json(tmp_path / "a.json") == document
    assert "Grüße" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [None, b"", b'{"a": ', b"\xff"])
def test_what_is_no_document_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    assert files.read_json(tmp_path / "a.json") is None


def test_hashes_are_those_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert files.text_sha256("é") == hashlib.sha256("é".encode()).hexdigest()
    document = {"b": [1.5, "x"], "a": None}
    expected = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    assert files.json_sha256(document) == expected


def test_progress_is_reported_for_every_chunk_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"abcde")
    monkeypatch.setattr(files, "CHUNK_BYTES", 2)
    calls = []
    digest = files.file_sha256(tmp_path / "a", progress=lambda: calls.append(1))
    assert digest == hashlib.sha256(b"abcde").hexdigest() and len(calls) == 3


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), ("out: ", "No space left")),
        (OSError(13, "Permission denied", "out/a"), ("out/a: ", "Permission denied")),
        (OSError("no number"), ("out: ", "no number")),
    ],
)
def test_an_error_of_the_system_becomes_a_storage_error(error, words):
    with pytest.raises(StorageError) as raised, files.storage_errors("out"):
        raise error
    assert mentions(str(raised.value), *words)
    assert raised.value.__cause__ is error


def test_a_storage_error_and_an_error_of_another_kind_pass():
    for error in (StorageError("out: full"), ValueError("odd")):
        with pytest.raises(type(error)) as raised, files.storage_errors("out"):
            raise error
        assert raised.value is error

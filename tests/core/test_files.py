"""Atomic files and hashes."""

import hashlib
import json

import pytest

from pipelines.core import files


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

"""Overlays are refused with a reason, and a failure leaves no half-written file."""

import av
import pytest

from helpers import media
from helpers.messages import key_words, mentions
from pipelines.core.errors import InputError, MediaError, StorageError
from pipelines.overlay import drawing, writer
from pipelines.overlay.writer import OverlayTask

PLAIN = {"faces": {}, "bars": []}


def failure(path, out, captions=PLAIN) -> str:
    (last,) = list(OverlayTask(path, out, captions).read())
    assert not last["more"]
    return last["overlay"]["error"]


def file_names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_without_pictures_is_refused_with_the_reason(tmp_path):
    out = tmp_path / "out.mp4"
    sound = media.write_sound(tmp_path / "a.wav", media.noise(0.5, 16_000))
    (tmp_path / "text.mp4").write_text("no film\n" * 99)
    assert failure(sound, out) == "no video stream"
    assert failure(tmp_path / "text.mp4", out).startswith("not a media file")
    assert "No such file" in failure(tmp_path / "missing.mp4", out)
    assert file_names(tmp_path) == ["a.wav", "text.mp4"]


def test_a_clip_is_never_its_own_overlay(tmp_path):
    path = media.write_video(tmp_path / "a.mp4", media.numbered_pictures(5))
    before = path.read_bytes()
    (tmp_path / "link.mp4").symlink_to(path)
    for out in (path, tmp_path / "link.mp4"):
        assert "another file" in failure(path, out)
    assert path.read_bytes() == before


def test_failure_leaves_the_folder_unchanged(tmp_path, monkeypatch):
    path, out = (
        media.write_video(tmp_path / "a.mp4", media.numbered_pictures(30)),
        tmp_path / "out.mp4",
    )
    out.write_text("old")
    assert failure(path, tmp_path / "away" / "out.mp4").endswith("(No such file or directory)")
    drawn = []

    def draw(*_):
        drawn.append(1)
        if len(drawn) > 7:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(drawing.FaceBoxes, "draw", draw)
    assert mentions(failure(path, out), str(out), "No space left")
    assert out.read_text() == "old"
    assert file_names(tmp_path) == ["a.mp4", "out.mp4"]
    monkeypatch.undo()
    monkeypatch.setattr(writer, "PICTURES_PER_MESSAGE", 5)
    messages = OverlayTask(path, out, PLAIN).read()
    assert next(messages) == {
        "more": True,
        "overlay": {"pictures": 5, "seconds": pytest.approx(0.2)},
    }
    messages.close()  # who reads it is stopped
    assert out.read_text() == "old"
    assert file_names(tmp_path) == ["a.mp4", "out.mp4"]


def test_a_file_whose_pictures_do_not_decode_is_refused(tmp_path, monkeypatch):
    path = media.write_video(
        tmp_path / "a.mp4", media.numbered_pictures(5), sound=media.noise(0.2, 44_100)
    )
    monkeypatch.setattr(writer, "decoded_packet", lambda context, packet: None)
    assert mentions(failure(path, tmp_path / "out.mp4"), "no picture", "decoded")
    monkeypatch.setattr(writer, "MAX_WAITING_BYTES", 10)
    with pytest.raises(MediaError, match=key_words("no picture", "decoded")):
        list(writer.write_overlay(path, tmp_path / "out.mp4", captions=PLAIN))
    assert not (tmp_path / "out.mp4").exists()


def test_each_refusal_has_its_class(tmp_path, monkeypatch):
    path = media.write_video(tmp_path / "a.mp4", media.numbered_pictures(5))
    with pytest.raises(InputError, match="another file"):
        list(writer.write_overlay(path, path, captions=PLAIN))
    with pytest.raises(StorageError, match="cannot be written"):
        list(writer.write_overlay(path, tmp_path / "away/out.mp4", captions=PLAIN))

    def refuse(*_):
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(drawing.FaceBoxes, "draw", refuse)
    with pytest.raises(MediaError, match=key_words("encoded", "Invalid argument")):
        list(writer.write_overlay(path, tmp_path / "out.mp4", captions=PLAIN))
    assert file_names(tmp_path) == ["a.mp4"]

"""The page of some predictions: what is on it, that it is safe and the same each time, and that long clips stay small."""

import html.parser
import re

import pytest

from helpers.prediction_results import (
    LABELS,
    MODEL,
    NO_IMAGES,
    clip_prediction,
    key_pictures,
    random_spectrogram,
)
from kerasemo.inference.clip_prediction import captions
from kerasemo.reporting import charts, prediction_page
from pipelines.core.errors import DataError
from pipelines.core.labels import EMOTIONS

HOSTILE = "<img src=x onerror=alert(1)>\"'&.mp4"


class Page(html.parser.HTMLParser):
    """Reads a page and holds its tags with their attributes, and its text; each tag must be closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data + "\n"

    def all(self, tag, kind=None):
        found = [attributes for name, attributes in self.tags if name == tag]
        return [
            attributes
            for attributes in found
            if kind is None or kind in attributes.get("class", "").split()
        ]


def shown(results, model=MODEL) -> Page:
    return Page(prediction_page.prediction_page(results, model=model))


def words(read: Page) -> str:
    return re.sub(r"[\s\xa0]+", " ", read.text)


def test_what_is_on_the_page_of_one_clip():
    one = clip_prediction(warnings=["3 faces: the main one is the largest"])
    read = shown([(one, {"pictures": key_pictures(), "spectrogram": random_spectrogram()})])
    assert [attributes["id"] for attributes in read.all("section")] == ["clip-1", "model"]
    assert [attributes["href"] for attributes in read.all("a")] == ["#clip-1", "#model"]
    text = words(read)
    for kind, title in (("visual", "Face"), ("audio", "Voice"), ("fused", "Face and voice")):
        shares = one[kind]["probabilities"]
        rows = " ".join(f"{label} {100 * share:.1f} %" for label, share in shares.items())
        assert (
            f"{title} {one[kind]['emotion']} {100 * one[kind]['confidence']:.0f} %" in text
            and rows in text
        )
    for part in (
        "Seen in 16 of 16 pictures of 4.00 s.",
        "The mean over 8 segments of 4.00 s",
        "The face counts 0.65, the voice 0.35.",
    ):
        assert part in text
    for part in (
        "3 faces: the main one is the largest",
        "Limits acted speech",
        'training.sources ["savee/visual"]',
        "ab" * 32,
        "0.50 s",
    ):
        assert part in text
    assert (
        "signatures" not in text.replace("without the signatures", "")
        and "synthesised" not in text
        and "Summary" not in text
    )
    charts_drawn = read.all("svg", "bands")
    assert len(charts_drawn) == 3 and all(
        drawn["role"] == "img" and "4.00 s" in drawn["aria-label"] for drawn in charts_drawn
    )
    assert all(attributes["alt"] for attributes in read.all("img")) and len(read.all("img")) == 3
    assert (
        "face 1 " in read.all("img")[1]["alt"]
        and len(read.all("table")) == len(read.all("caption")) == 5
    )


def test_the_page_needs_nothing_but_itself_and_no_name_breaks_it():
    card = f"# {HOSTILE}\n\n[x](javascript:alert(1)) `{HOSTILE}` **{HOSTILE}**\n\n| {HOSTILE} |\n|--|\n| 1 |\n"
    model = MODEL | {
        "name": HOSTILE,
        "card": card,
        "document": {"versions": {HOSTILE: HOSTILE}, "synthetic": True},
    }
    bad = {"path": f"bad{HOSTILE}", "sha256": "", "error": HOSTILE}
    beside = {"pictures": key_pictures(), "spectrogram": random_spectrogram()}
    results = [
        (clip_prediction(HOSTILE, warnings=[HOSTILE]), beside),
        (bad, NO_IMAGES),
        (clip_prediction("\udcff.mp4"), NO_IMAGES),
    ]
    text = prediction_page.prediction_page(results, model=model)
    read = Page(text)
    assert (
        "<img src=x" not in text
        and not read.all("script")
        and "trained on synthesised samples" in text
    )
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    links = [
        attributes.get(name)
        for _, attributes in read.tags
        for name in ("src", "href")
        if name in attributes
    ]
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert "http" not in text and "url(" not in text and "@import" not in text
    inside = {attributes.get("id") for _, attributes in read.tags}
    assert all(link[1:] in inside for link in links if link.startswith("#"))
    assert read.text.count(HOSTILE) >= 8 and "\\udcff.mp4" in text and text.encode()
    assert (
        len(read.all("h1")) == 1
        and read.all("html") == [{"lang": "en"}]
        and "prefers-color-scheme:dark" in text
    )


def test_a_label_that_is_no_emotion_is_refused():
    with pytest.raises(DataError, match=r"label must be one of anger, .*; received '<b>'"):
        prediction_page.prediction_page([], model=MODEL | {"labels": ["<b>"]})


def test_several_clips_have_a_summary_and_what_was_left_out_its_reason():
    results = [
        (clip_prediction("one.mp4"), NO_IMAGES),
        (
            clip_prediction("voice.wav", visual=False, warnings=["no video stream", "short"]),
            NO_IMAGES,
        ),
        (clip_prediction("silent.mp4", audio=False), NO_IMAGES),
        ({"path": "bad.mp4", "sha256": "", "error": "empty file (0 bytes)"}, NO_IMAGES),
    ]
    read = shown(results)
    assert [attributes["id"] for attributes in read.all("section")] == [
        "summary",
        "clip-1",
        "clip-2",
        "clip-3",
        "left-out",
        "model",
    ]
    assert [attributes["href"] for attributes in read.all("a")][3:] == [
        "#clip-1",
        "#clip-2",
        "#clip-3",
    ]
    text = words(read)
    assert re.search(
        r"one\.mp4 \w+ \d+ % \w+ \d+ % \w+ \d+ % 0 voice\.wav none \w+ \d+ % none 2 silent\.mp4 \w+ \d+ % none none 0",
        text,
    )
    assert (
        "clip reason bad.mp4 empty file (0 bytes)" in text
        and "Left out (1)" in text
        and "3 clips as sample-joint sees" in text
    )
    assert text.count("no answer") == 4 and len(read.all("svg", "bands")) == 3 + 1 + 1


def test_a_page_of_failures_alone_says_so():
    read = shown([({"path": "bad.mp4", "sha256": "", "error": "empty file (0 bytes)"}, NO_IMAGES)])
    assert [attributes["id"] for attributes in read.all("section")] == [
        "left-out",
        "model",
    ] and "0 clips" in words(read)


def test_each_face_has_a_chart_and_many_faces_a_table():
    one = clip_prediction(faces=9, n_pictures=90, seconds=30.0)
    two = ((1, 10, 5, 60, 60), (9, 560, 300, 50, 50))
    read = shown([(one, {"pictures": key_pictures(1, boxes=two), "spectrogram": None})])
    text = words(read)
    assert "Face 1 (the main one)" in text and "Face 6" in text and "The first 6 of 9 faces" in text
    assert (
        len(read.all("svg", "bands")) == 6 + 2
        and "The main one of 9 faces; seen in 10 of 90 pictures of 30.00 s." in text
    )
    assert (
        f"face from, s to, s times seen answer {' '.join(LABELS)}" in text
        and len(re.findall(r" 10 \w+ \d+ %", text)) == 9
    )
    (edge, own, other_edge, other) = read.all("rect")
    assert (
        own["x"] == "10"
        and other["width"] == "50"
        and edge["class"] == other_edge["class"] == "edge"
    )
    assert own["class"] == f"e{EMOTIONS.index(_nearest(one, 1, 0.5)['emotion'])}"
    names = [
        attributes["style"]
        for attributes in read.all("span")
        if "%;" in attributes.get("style", "")
    ]
    assert names == ["left:1.6%;top:1.4%", "right:4.7%;bottom:16.7%"]


def _nearest(one, face, seconds):
    own = [entry for entry in one["visual"]["timeline"] if entry["face"] == face]
    return min(own, key=lambda entry: abs(entry["seconds"] - seconds))


def test_a_still_has_no_time():
    still = clip_prediction("a.jpg", audio=False, n_pictures=1)
    still["visual"] |= {
        "seconds": 0.0,
        "timeline": [still["visual"]["timeline"][0] | {"seconds": 0.0}],
    }
    read = shown([(still, {"pictures": key_pictures(1), "spectrogram": None})])
    text = words(read)
    assert (
        "Seen in a still picture." in text
        and "Over time" not in text
        and not read.all("svg", "bands")
        and len(read.all("rect")) == 2
    )


def test_two_hours_are_a_page_of_less_than_a_megabyte():
    one = clip_prediction(seconds=7200.0, n_pictures=28_800, faces=2)
    text = prediction_page.prediction_page(
        [(one, {"pictures": [], "spectrogram": random_spectrogram(1200, 7200.0)})], model=MODEL
    )
    assert len(text) < 1_000_000 and "2:00:00" in text
    for drawn in re.findall(r'class="rest" d="([^"]*)"', text):
        assert drawn.count("L") <= 2 * charts.MOST_COLUMNS + 3
    assert text.count("<tr>") < 2 * prediction_page.MOST_ROWS


def test_the_same_predictions_give_the_same_page_written_whole(tmp_path, monkeypatch):
    results = [
        (clip_prediction(), {"pictures": key_pictures(), "spectrogram": random_spectrogram()})
    ]
    prediction_page.write_prediction_page(tmp_path / "page.html", results, model=MODEL)
    written = (tmp_path / "page.html").read_bytes()
    assert written == prediction_page.prediction_page(results, model=MODEL).encode() and [
        path.name for path in tmp_path.iterdir()
    ] == ["page.html"]

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        prediction_page.write_prediction_page(tmp_path / "page.html", [], model=MODEL)
    assert (tmp_path / "page.html").read_bytes() == written and [
        path.name for path in tmp_path.iterdir()
    ] == ["page.html"]


def test_captions_are_the_boxes_of_all_and_the_bars_of_the_main_face():
    one = clip_prediction(faces=2, n_pictures=8)
    made = captions(one)
    assert sorted(made["faces"]) == [1, 2] and [group["title"] for group in made["bars"]] == [
        "face",
        "voice",
        "both",
    ]
    first = one["visual"]["timeline"][0]
    assert made["faces"][1]["seconds"] == [0.25, 1.25, 2.25, 3.25] and made["faces"][1]["boxes"][
        0
    ] == [100, 60, 80, 90]
    assert made["faces"][1]["texts"][0] == f"{first['emotion']} {100 * first['confidence']:.0f}%"
    face, voice, both = made["bars"]
    assert face["seconds"] == made["faces"][1]["seconds"] and face["labels"] == LABELS
    assert face["values"][0] == list(first["probabilities"].values())
    assert (
        voice["seconds"][:2] == [0.3275, 0.8275]
        and len(voice["values"]) == 8
        and len(both["values"]) == 8
    )


@pytest.mark.parametrize(
    ("parts", "titles"), [({"visual": False}, ["voice"]), ({"audio": False}, ["face"])]
)
def test_captions_of_what_is_there_alone(parts, titles):
    made = captions(clip_prediction(**parts))
    assert [group["title"] for group in made["bars"]] == titles and bool(made["faces"]) == (
        titles == ["face"]
    )

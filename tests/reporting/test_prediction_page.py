"""The page of predictions: its content, safe markup, equal bytes, and the size of long clips."""

import html.parser
import re

import pytest

from helpers.messages import key_words
from helpers.prediction_results import (
    LABELS,
    MODEL,
    clip_prediction,
    failed_prediction,
    key_pictures,
    random_spectrogram,
)
from kerasemo.inference.clip_prediction import captions
from kerasemo.reporting import charts, prediction_page
from pipelines.core.errors import DataError
from pipelines.core.labels import EMOTIONS

HOSTILE = "<img src=x onerror=alert(1)>\"'&.mp4"
UNREADABLE = failed_prediction("bad.mp4", "empty file (0 bytes)")


class Page(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its text.

    Each tag must be closed in its turn.
    """

    def __init__(self, markup):
        super().__init__()
        self.markup, self.tags, self._raw_text, self._open_tags = markup, [], "", []
        self.feed(markup)
        assert not self._open_tags

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "br"):
            self._open_tags.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open_tags.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open_tags:
            self._raw_text += data + "\n"

    @property
    def text(self):
        return re.sub(r"[\s\xa0]+", " ", self._raw_text)

    def all(self, tag, css_class=None):
        return [
            attributes
            for name, attributes in self.tags
            if name == tag
            and (css_class is None or css_class in attributes.get("class", "").split())
        ]

    def section_ids(self):
        return [attributes["id"] for attributes in self.all("section")]

    def link_targets(self):
        return [attributes["href"] for attributes in self.all("a")]


def page_of(*predictions, model=MODEL) -> Page:
    return Page(prediction_page.prediction_page(predictions, model=model))


def page_with_pictures(**options) -> tuple[Page, dict]:
    """Return the page of one clip with all its pictures, and the document of the clip."""
    prediction = clip_prediction(
        pictures=key_pictures(), spectrogram=random_spectrogram(), **options
    )
    return page_of(prediction), prediction.document


def test_page_of_one_clip_has_its_section_and_that_of_the_model():
    page, _ = page_with_pictures()
    assert page.section_ids() == ["clip-1", "model"]
    assert page.link_targets() == ["#clip-1", "#model"]
    assert "Summary" not in page.text


@pytest.mark.parametrize(
    ("domain", "title"), [("visual", "Face"), ("audio", "Voice"), ("fused", "Face and voice")]
)
def test_each_prediction_shows_its_emotion_and_all_probabilities(domain, title):
    page, document = page_with_pictures()
    prediction = document[domain]
    percent = f"{100 * prediction['confidence']:.0f} %"
    assert f"{title} {prediction['emotion']} {percent}" in page.text
    shares = prediction["probabilities"].items()
    assert " ".join(f"{label} {100 * share:.1f} %" for label, share in shares) in page.text


@pytest.mark.parametrize(
    "text",
    [
        "16 of 16 pictures of 4.00 s",
        "8 segments of 4.00 s",
        "0.65",
        "0.35",
        "3 faces",
        "Limits acted speech",
        'training.sources ["savee/visual"]',
        "ab" * 32,
        "0.50 s",
    ],
)
def test_page_says_what_a_prediction_is_based_on(text):
    page, _ = page_with_pictures(warnings=["3 faces"])
    assert text in page.text


def test_page_of_a_model_of_real_clips_has_no_stamp():
    page, _ = page_with_pictures()
    assert "synthesised" not in page.text


def test_signatures_of_the_bundle_are_not_in_the_table_of_facts():
    page, _ = page_with_pictures()
    assert not re.search(r"signatures\.", page.text)


def test_charts_pictures_and_tables_are_described_in_words():
    page, _ = page_with_pictures()
    bands = page.all("svg", "bands")
    assert len(bands) == 3
    assert all(drawn["role"] == "img" and "4.00 s" in drawn["aria-label"] for drawn in bands)
    images = page.all("img")
    assert len(images) == 3
    assert all(image["alt"] for image in images)
    assert "face 1 " in images[1]["alt"]
    assert len(page.all("table")) == len(page.all("caption")) == 5


@pytest.fixture(scope="module")
def hostile_page():
    """The page of clips and a model whose names are markup."""
    card = (
        f"# {HOSTILE}\n\n[x](javascript:alert(1)) `{HOSTILE}` **{HOSTILE}**\n\n"
        f"| {HOSTILE} |\n|--|\n| 1 |\n"
    )
    document = {"name": HOSTILE, "versions": {HOSTILE: HOSTILE}, "synthetic": True}
    return page_of(
        clip_prediction(
            HOSTILE,
            warnings=[HOSTILE],
            pictures=key_pictures(),
            spectrogram=random_spectrogram(),
        ),
        failed_prediction(f"bad{HOSTILE}", HOSTILE),
        clip_prediction("\udcff.mp4"),
        model=MODEL._replace(document=document, card=card),
    )


def test_no_name_becomes_markup(hostile_page):
    assert "<img src=x" not in hostile_page.markup
    assert not hostile_page.all("script")
    attributes = {name for _, attributes in hostile_page.tags for name in attributes}
    assert not any(name.startswith("on") for name in attributes)
    assert hostile_page.text.count(HOSTILE) >= 8


def test_name_that_is_no_unicode_is_shown_escaped(hostile_page):
    assert "\\udcff.mp4" in hostile_page.markup
    assert hostile_page.markup.encode()


def test_page_loads_nothing_from_elsewhere(hostile_page):
    addresses = [
        attributes[name]
        for _, attributes in hostile_page.tags
        for name in ("src", "href")
        if name in attributes
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not any(text in hostile_page.markup for text in ("http", "url(", "@import"))
    ids = {attributes.get("id") for _, attributes in hostile_page.tags}
    assert all(address[1:] in ids for address in addresses if address.startswith("#"))


def test_page_has_one_heading_a_language_and_dark_colours(hostile_page):
    assert len(hostile_page.all("h1")) == 1
    assert hostile_page.all("html") == [{"lang": "en"}]
    assert "prefers-color-scheme:dark" in hostile_page.markup


def test_page_of_a_synthetic_model_is_stamped(hostile_page):
    assert "synthesised" in hostile_page.text


def test_label_that_is_no_emotion_is_refused():
    with pytest.raises(DataError, match=key_words("label", "anger", "'<b>'")):
        page_of(model=MODEL._replace(labels=["<b>"]))


@pytest.fixture(scope="module")
def page_of_several():
    return page_of(
        clip_prediction("one.mp4"),
        clip_prediction("voice.wav", visual=False, warnings=["no video stream", "short"]),
        clip_prediction("silent.mp4", audio=False),
        UNREADABLE,
    )


def test_page_of_several_clips_has_a_summary(page_of_several):
    page = page_of_several
    clips = ["clip-1", "clip-2", "clip-3"]
    assert page.section_ids() == ["summary", *clips, "left-out", "model"]
    assert page.link_targets()[3:] == [f"#{clip}" for clip in clips]
    prediction = r"\w+ \d+ %"
    rows = (
        rf"one\.mp4 {prediction} {prediction} {prediction} 0 "
        rf"voice\.wav none {prediction} none 2 silent\.mp4 {prediction} none none 0"
    )
    assert re.search(rows, page.text)
    assert "3 clips" in page.text


def test_clip_that_cannot_be_read_is_listed_with_its_reason(page_of_several):
    assert "bad.mp4 empty file (0 bytes)" in page_of_several.text
    assert "Left out (1)" in page_of_several.text


def test_missing_domain_has_no_prediction_and_no_chart(page_of_several):
    assert page_of_several.text.count("no answer") == 4
    assert len(page_of_several.all("svg", "bands")) == 3 + 1 + 1


def test_page_of_failures_alone_counts_no_clip():
    page = page_of(UNREADABLE)
    assert page.section_ids() == ["left-out", "model"]
    assert "0 clips" in page.text


def nearest_entry(document, face, seconds):
    entries = [entry for entry in document["visual"]["timeline"] if entry["face"] == face]
    return min(entries, key=lambda entry: abs(entry["seconds"] - seconds))


@pytest.fixture(scope="module")
def nine_faces():
    """The prediction of a clip with nine faces, of which a key picture shows two."""
    boxes = ((1, 10, 5, 60, 60), (9, 560, 300, 50, 50))
    return clip_prediction(
        faces=9, n_pictures=90, seconds=30.0, pictures=key_pictures(1, boxes=boxes)
    )


def test_first_faces_have_a_chart_each(nine_faces):
    page = page_of(nine_faces)
    assert len(page.all("svg", "bands")) == prediction_page.MAX_FACE_CHARTS + 2
    assert "Face 1 (the main one)" in page.text
    assert "Face 6" in page.text
    assert "6 of 9 faces" in page.text
    assert "10 of 90 pictures of 30.00 s" in page.text


def test_all_faces_are_in_a_table(nine_faces):
    page = page_of(nine_faces)
    assert " ".join(LABELS) in page.text
    assert len(re.findall(r" 10 \w+ \d+ %", page.text)) == 9


def test_key_picture_has_boxes_and_names_of_its_faces(nine_faces):
    page = page_of(nine_faces)
    first_edge, first_box, second_edge, second_box = page.all("rect")
    assert first_box["x"] == "10"
    assert second_box["width"] == "50"
    assert first_edge["class"] == second_edge["class"] == "edge"
    emotion = nearest_entry(nine_faces.document, 1, 0.5)["emotion"]
    assert first_box["class"] == f"e{EMOTIONS.index(emotion)}"
    styles = [attributes.get("style", "") for attributes in page.all("span")]
    places = [style for style in styles if "%;" in style]
    assert places == ["left:1.6%;top:1.4%", "right:4.7%;bottom:16.7%"]


def test_still_has_no_time():
    still = clip_prediction("a.jpg", audio=False, n_pictures=1, pictures=key_pictures(1))
    visual = still.document["visual"]
    visual |= {"seconds": 0.0, "timeline": [visual["timeline"][0] | {"seconds": 0.0}]}
    page = page_of(still)
    assert "still picture" in page.text
    assert "Over time" not in page.text
    assert not page.all("svg", "bands")
    assert len(page.all("rect")) == 2


def test_page_of_two_hours_is_smaller_than_a_megabyte():
    prediction = clip_prediction(
        seconds=7200.0,
        n_pictures=28_800,
        faces=2,
        spectrogram=random_spectrogram(1200, 7200.0),
    )
    markup = page_of(prediction).markup
    assert len(markup) < 1_000_000
    assert "2:00:00" in markup
    for area in re.findall(r'class="rest" d="([^"]*)"', markup):
        assert area.count("L") <= 2 * charts.MAX_COLUMNS + 3
    assert markup.count("<tr>") < 2 * prediction_page.MAX_ROWS


def test_equal_predictions_give_equal_bytes(tmp_path):
    prediction = clip_prediction(pictures=key_pictures(), spectrogram=random_spectrogram())
    prediction_page.write_prediction_page(tmp_path / "page.html", [prediction], model=MODEL)
    markup = prediction_page.prediction_page([prediction], model=MODEL)
    assert (tmp_path / "page.html").read_bytes() == markup.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_failed_writing_leaves_the_former_page(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    page = tmp_path / "page.html"
    page.write_text("former")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match=key_words("page.html", "No space")):
        prediction_page.write_prediction_page(page, [], model=MODEL)
    assert page.read_text() == "former"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_captions_have_the_boxes_of_all_faces():
    document = clip_prediction(faces=2, n_pictures=8).document
    faces = captions(document)["faces"]
    assert sorted(faces) == [1, 2]
    assert faces[1]["seconds"] == [0.25, 1.25, 2.25, 3.25]
    assert faces[1]["boxes"][0] == [100, 60, 80, 90]
    first = document["visual"]["timeline"][0]
    assert faces[1]["texts"][0] == f"{first['emotion']} {100 * first['confidence']:.0f}%"


def test_captions_have_bars_of_the_main_face_the_voice_and_both():
    document = clip_prediction(faces=2, n_pictures=8).document
    face, voice, both = captions(document)["bars"]
    assert [group["title"] for group in (face, voice, both)] == ["face", "voice", "both"]
    assert face["seconds"] == [0.25, 1.25, 2.25, 3.25]
    assert face["labels"] == LABELS
    first = document["visual"]["timeline"][0]
    assert face["values"][0] == list(first["probabilities"].values())
    assert voice["seconds"][:2] == [0.3275, 0.8275]
    assert len(voice["values"]) == len(both["values"]) == 8


@pytest.mark.parametrize(
    ("missing", "titles", "has_faces"), [("visual", ["voice"], False), ("audio", ["face"], True)]
)
def test_captions_of_one_domain_have_its_bars_alone(missing, titles, has_faces):
    document = clip_prediction(**{missing: False}).document
    groups = captions(document)
    assert [group["title"] for group in groups["bars"]] == titles
    assert bool(groups["faces"]) == has_faces

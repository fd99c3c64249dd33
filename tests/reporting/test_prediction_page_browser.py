"""The page of some predictions in a real browser: whole, quiet, of itself alone, and readable on a telephone."""

import pytest

from helpers import browser
from helpers.prediction_results import (
    LABELS,
    MODEL,
    NO_IMAGES,
    clip_prediction,
    key_pictures,
    random_spectrogram,
)
from kerasemo.reporting import prediction_page

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no chromium")

WATCH = """window.said = [];
for (const kind of ["error", "warn"]) console[kind] = (...words) => said.push(words.join(" "));
addEventListener("error", event => said.push(String(event.message || event.target.outerHTML)), true);
addEventListener("securitypolicyviolation", event => said.push(event.blockedURI));"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A function that shows the page at a width, light or dark, and returns the browser."""
    folder = tmp_path_factory.mktemp("page")
    name = "a long name of a clip, " * 4 + "x" * 90 + ".mp4"
    boxes = ((1, 100, 60, 80, 90), (2, 560, 5, 70, 80))
    results = [
        (
            clip_prediction(name, faces=3, n_pictures=48, seconds=12.0, warnings=["y" * 120]),
            {"pictures": key_pictures(3, boxes), "spectrogram": random_spectrogram()},
        ),
        (
            clip_prediction("voice.wav", visual=False),
            {"pictures": [], "spectrogram": random_spectrogram(60, 2.0)},
        ),
        (clip_prediction("long.mp4", seconds=7200.0, n_pictures=14_400), NO_IMAGES),
        (
            {"path": "z" * 200, "sha256": "", "error": "empty file (0 bytes) " + "w" * 150},
            NO_IMAGES,
        ),
    ]
    prediction_page.write_prediction_page(folder / "page.html", results, model=MODEL)
    with browser.Browser(tmp_path_factory.mktemp("profile"), size=(1200, 900)) as shown:
        shown.call("Page.enable")
        shown.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)

        def show(width: int, scheme: str) -> browser.Browser:
            shown.call(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=900,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
            shown.call(
                "Emulation.setEmulatedMedia",
                features=[{"name": "prefers-color-scheme", "value": scheme}],
            )
            shown.open((folder / "page.html").as_uri(), "The model", "Left out")
            return shown

        yield show


SIZES = [(1200, "light"), (1200, "dark"), (380, "light"), (380, "dark")]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_it_is_whole_quiet_and_of_itself_alone(opened, width, scheme):
    shown = opened(width, scheme)
    assert shown.evaluate("said") == []
    assert (
        shown.evaluate(
            "performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
        )
        == []
    )
    wide = [
        one
        for one in shown.all(
            "main *", "[node.outerHTML.slice(0, 80), node.getBoundingClientRect().right]"
        )
        if one[1] > width
    ]
    assert shown.evaluate("document.documentElement.scrollWidth") <= width, wide
    images = shown.all(
        "img", "[node.complete, node.naturalWidth, node.clientWidth, node.clientHeight]"
    )
    assert len(images) == 3 + 2 and all(
        complete and natural and wide >= 40 and high >= 100
        for complete, natural, wide, high in images
    )
    drawn = shown.all("svg.bands", "[node.clientWidth, node.clientHeight]")
    assert len(drawn) == 5 + 1 + 3 and all(
        wide >= 150 and high >= 24 * len(LABELS) - 1 for wide, high in drawn
    )
    assert all(
        shown.all("svg.bands path", "node.getBBox().height > 0 || node.getAttribute('d') === ''")
    )


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_legend_and_answers_can_be_read(opened, width, scheme):
    shown = opened(width, scheme)
    legend = shown.all(
        ".legend li",
        "[node.innerText.trim(), getComputedStyle(node.querySelector('.mark')).fill, node.clientHeight]",
    )
    assert [name for name, *_ in legend] == LABELS and len({fill for _, fill, _ in legend}) == len(
        LABELS
    )
    assert all(shown.all(".mark", "node.getBoundingClientRect().width >= 7"))
    answers = shown.all(".said", "node.innerText.trim()")
    assert len(answers) == 9 and answers.count("no answer") == 2
    bright = "(c => c.match(/\\d+/g).map(Number).reduce((a, b) => a + b))(getComputedStyle(document.body).backgroundColor)"
    assert (shown.evaluate(bright) > 600) == (scheme == "light")


def test_the_voice_stands_above_its_sound_on_one_time_axis(opened):
    """The second clip's sound of 2 s is half as wide as its charts of 4 s, and begins where they do."""
    shown = opened(1200, "light")
    (chart,) = shown.all(
        "#clip-2 svg.bands", "(box => [box.left, box.width])(node.getBoundingClientRect())"
    )
    (sound,) = shown.all(
        "#clip-2 img", "(box => [box.left, box.width])(node.getBoundingClientRect())"
    )
    assert sound[0] == pytest.approx(chart[0], abs=2) and sound[1] == pytest.approx(
        chart[1] / 2, rel=0.01
    )


@pytest.mark.parametrize("width", [1200, 380])
def test_boxes_lie_on_the_faces_and_names_within_the_picture(opened, width):
    shown = opened(width, "light")
    place = "(box => (shot => [(box.left - shot.left) / shot.width, (box.top - shot.top) / shot.height, box.width / shot.width])"
    place += "(node.closest('.shot').getBoundingClientRect()))(node.getBoundingClientRect())"
    boxes = shown.all(".shot rect:not(.edge)", place)
    for found, (_, left, top, wide, _) in zip(
        boxes, ((1, 100, 60, 80, 90), (2, 560, 5, 70, 80)), strict=False
    ):
        assert found == pytest.approx([left / 640, top / 360, wide / 640], abs=0.02)
    names = shown.all(".shot span", place)
    assert len(names) == 6 and all(
        left >= -0.01 and top >= -0.01 and left + wide <= 1.01 for left, top, wide in names
    )


def test_the_table_of_the_answers_unfolds(opened):
    shown = opened(380, "light")
    shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert shown.evaluate("document.documentElement.scrollWidth") <= 380
    assert (
        "The most probable emotion of each 120.00 s" in shown.text()
        and "bundle.json, without the signatures" in shown.text()
    )

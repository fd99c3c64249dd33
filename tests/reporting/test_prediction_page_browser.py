"""The page of predictions in a real browser, on a wide and on a narrow screen."""

import pytest

from helpers import browser
from helpers.prediction_results import (
    LABELS,
    MODEL,
    clip_prediction,
    failed_prediction,
    key_pictures,
    random_spectrogram,
)
from kerasemo.reporting import prediction_page

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no chromium")

WATCH = """window.complaints = [];
for (const kind of ["error", "warn"])
  console[kind] = (...words) => complaints.push(words.join(" "));
addEventListener(
  "error", event => complaints.push(String(event.message || event.target.outerHTML)), true);
addEventListener("securitypolicyviolation", event => complaints.push(event.blockedURI));"""
BOXES = ((1, 100, 60, 80, 90), (2, 560, 5, 70, 80))
"""Face, left, top, width and height in a picture of 640x360 pixels."""
SIZES = [(1200, "light"), (1200, "dark"), (380, "light"), (380, "dark")]


@pytest.fixture(scope="module")
def open_page(tmp_path_factory):
    """A function that opens the page at a width, light or dark, and returns the browser."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    long_name = "a long name of a clip, " * 4 + "x" * 90 + ".mp4"
    predictions = [
        clip_prediction(
            long_name,
            faces=3,
            n_pictures=48,
            seconds=12.0,
            warnings=["y" * 120],
            pictures=key_pictures(3, BOXES),
            spectrogram=random_spectrogram(),
        ),
        clip_prediction("voice.wav", visual=False, spectrogram=random_spectrogram(60, 2.0)),
        clip_prediction("long.mp4", seconds=7200.0, n_pictures=14_400),
        failed_prediction("z" * 200, "empty file (0 bytes) " + "w" * 150),
    ]
    prediction_page.write_prediction_page(path, predictions, model=MODEL)
    with browser.Browser(tmp_path_factory.mktemp("profile"), size=(1200, 900)) as window:
        window.call("Page.enable")
        window.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)

        def open_at(width: int, scheme: str) -> browser.Browser:
            window.call(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=900,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
            window.call(
                "Emulation.setEmulatedMedia",
                features=[{"name": "prefers-color-scheme", "value": scheme}],
            )
            window.open(path.as_uri(), "The model", "Left out")
            return window

        yield open_at


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_page_loads_nothing_and_raises_no_error(open_page, width, scheme):
    window = open_page(width, scheme)
    assert window.evaluate("complaints") == []
    names = "performance.getEntriesByType('resource').map(entry => entry.name)"
    assert window.evaluate(f"{names}.filter(name => !name.startsWith('data:'))") == []


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_page_is_no_wider_than_the_screen(open_page, width, scheme):
    window = open_page(width, scheme)
    nodes = window.all(
        "main *", "[node.outerHTML.slice(0, 80), node.getBoundingClientRect().right]"
    )
    too_wide = [(markup, right) for markup, right in nodes if right > width]
    assert window.evaluate("document.documentElement.scrollWidth") <= width, too_wide


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_images_and_charts_are_drawn_large_enough(open_page, width, scheme):
    window = open_page(width, scheme)
    images = window.all(
        "img", "[node.complete, node.naturalWidth, node.clientWidth, node.clientHeight]"
    )
    assert len(images) == 3 + 2
    for is_complete, natural_width, image_width, image_height in images:
        assert is_complete and natural_width
        assert image_width >= 40 and image_height >= 100
    bands = window.all("svg.bands", "[node.clientWidth, node.clientHeight]")
    assert len(bands) == 5 + 1 + 3
    for chart_width, chart_height in bands:
        assert chart_width >= 150 and chart_height >= 24 * len(LABELS) - 1
    is_drawn = "node.getBBox().height > 0 || node.getAttribute('d') === ''"
    assert all(window.all("svg.bands path", is_drawn))


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_legend_names_each_emotion_with_its_colour(open_page, width, scheme):
    window = open_page(width, scheme)
    colour = "getComputedStyle(node.querySelector('.mark')).fill"
    legend = window.all(".legend li", f"[node.innerText.trim(), {colour}]")
    assert [name for name, _ in legend] == LABELS
    assert len({fill for _, fill in legend}) == len(LABELS)
    assert all(window.all(".mark", "node.getBoundingClientRect().width >= 7"))


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_each_domain_has_a_prediction_or_none(open_page, width, scheme):
    predictions = open_page(width, scheme).all(".said", "node.innerText.trim()")
    assert len(predictions) == 9
    assert predictions.count("no answer") == 2


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_background_follows_the_colour_scheme(open_page, width, scheme):
    window = open_page(width, scheme)
    colour = window.evaluate("getComputedStyle(document.body).backgroundColor")
    red, green, blue = map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))
    assert (red + green + blue > 600) == (scheme == "light")


def test_spectrogram_has_the_time_axis_of_the_charts(open_page):
    """The sound of 2 s is half as wide as the charts of 4 s, and begins at the same place."""
    window = open_page(1200, "light")
    extent = "(box => [box.left, box.width])(node.getBoundingClientRect())"
    ((chart_left, chart_width),) = window.all("#clip-2 svg.bands", extent)
    ((sound_left, sound_width),) = window.all("#clip-2 img", extent)
    assert sound_left == pytest.approx(chart_left, abs=2)
    assert sound_width == pytest.approx(chart_width / 2, rel=0.01)


@pytest.mark.parametrize("width", [1200, 380])
def test_boxes_lie_on_the_faces_and_names_within_the_picture(open_page, width):
    window = open_page(width, "light")
    shares_of_picture = """((box, shot) => [
        (box.left - shot.left) / shot.width,
        (box.top - shot.top) / shot.height,
        box.width / shot.width,
    ])(node.getBoundingClientRect(), node.closest('.shot').getBoundingClientRect())"""
    boxes = window.all(".shot rect:not(.edge)", shares_of_picture)
    assert len(boxes) == 3 * len(BOXES)
    for shares, (_, left, top, box_width, _) in zip(boxes, BOXES * 3, strict=True):
        assert shares == pytest.approx([left / 640, top / 360, box_width / 640], abs=0.02)
    names = window.all(".shot span", shares_of_picture)
    assert len(names) == 6
    for left, top, name_width in names:
        assert left >= -0.01 and top >= -0.01 and left + name_width <= 1.01


def test_tables_unfold_within_the_screen(open_page):
    window = open_page(380, "light")
    window.evaluate("document.querySelectorAll('details').forEach(node => node.open = true)")
    assert window.evaluate("document.documentElement.scrollWidth") <= 380
    assert "120.00 s" in window.text()
    assert "bundle.json" in window.text()

"""Parts of self-contained HTML pages: tables, charts, pictures of log-Mels. No script, no remote file.

May import `pipelines.core`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.html.markup import (
        bars,
        clock,
        data_uri,
        document,
        escape,
        folded,
        framed,
        heat,
        hertz,
        histogram,
        natural,
        section,
        table,
        ticks,
        tiles,
        time_marks,
        unfolding,
    )
    from pipelines.html.spectrogram import RANGE_DB, hertz_marks, picture

__all__ = [
    "RANGE_DB",
    "bars",
    "clock",
    "data_uri",
    "document",
    "escape",
    "folded",
    "framed",
    "heat",
    "hertz",
    "hertz_marks",
    "histogram",
    "natural",
    "picture",
    "section",
    "table",
    "ticks",
    "tiles",
    "time_marks",
    "unfolding",
]

_MODULE_OF = {
    "RANGE_DB": "spectrogram",
    "bars": "markup",
    "clock": "markup",
    "data_uri": "markup",
    "document": "markup",
    "escape": "markup",
    "folded": "markup",
    "framed": "markup",
    "heat": "markup",
    "hertz": "markup",
    "hertz_marks": "spectrogram",
    "histogram": "markup",
    "natural": "markup",
    "picture": "spectrogram",
    "section": "markup",
    "table": "markup",
    "ticks": "markup",
    "tiles": "markup",
    "time_marks": "markup",
    "unfolding": "markup",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)

"""Parts of self-contained HTML pages: tables, charts, pictures of log-Mels.

No script, no remote file.

May import `pipelines.core`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.html.markup import (
        bar_table,
        clock,
        data_uri,
        escape,
        folded,
        folded_list,
        heat_table,
        hertz,
        histogram,
        markup_table,
        natural_key,
        page,
        section,
        table,
        ticks,
        tiles,
        time_marks,
    )
    from pipelines.html.spectrogram import RANGE_DB, hertz_marks, spectrogram_uri

__all__ = [
    "RANGE_DB",
    "bar_table",
    "clock",
    "data_uri",
    "escape",
    "folded",
    "folded_list",
    "heat_table",
    "hertz",
    "hertz_marks",
    "histogram",
    "markup_table",
    "natural_key",
    "page",
    "section",
    "spectrogram_uri",
    "table",
    "ticks",
    "tiles",
    "time_marks",
]

_MODULE_OF = {
    "RANGE_DB": "spectrogram",
    "bar_table": "markup",
    "clock": "markup",
    "data_uri": "markup",
    "escape": "markup",
    "folded": "markup",
    "folded_list": "markup",
    "heat_table": "markup",
    "hertz": "markup",
    "hertz_marks": "spectrogram",
    "histogram": "markup",
    "markup_table": "markup",
    "natural_key": "markup",
    "page": "markup",
    "section": "markup",
    "spectrogram_uri": "spectrogram",
    "table": "markup",
    "ticks": "markup",
    "tiles": "markup",
    "time_marks": "markup",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)

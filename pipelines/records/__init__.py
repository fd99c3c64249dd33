"""Read and write sets of records: TFRecord shards with a manifest.

May import `pipelines.core`, `pipelines.corpora` and `pipelines.features`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.records.reader import (
        check_shards,
        find_sets,
        read,
        read_manifest,
        spec_of,
        verify,
    )
    from pipelines.records.schema import FEATURES, parse, serialise
    from pipelines.records.writer import SetWriter, is_current

__all__ = [
    "FEATURES",
    "SetWriter",
    "check_shards",
    "find_sets",
    "is_current",
    "parse",
    "read",
    "read_manifest",
    "serialise",
    "spec_of",
    "verify",
]

_MODULE_OF = {
    "FEATURES": "schema",
    "SetWriter": "writer",
    "check_shards": "reader",
    "find_sets": "reader",
    "is_current": "writer",
    "parse": "schema",
    "read": "reader",
    "read_manifest": "reader",
    "serialise": "schema",
    "spec_of": "reader",
    "verify": "reader",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)

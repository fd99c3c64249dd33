"""Read and write sets of records: TFRecord shards with a manifest.

May import `pipelines.core`, `pipelines.corpora` and `pipelines.features`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.records.reader import (
        check_shards,
        find_sets,
        read_features,
        read_first_records,
        read_inputs,
        read_manifest,
        spec_of,
        verify,
    )
    from pipelines.records.schema import FEATURES, deserialise, item_count, parse, serialise
    from pipelines.records.shards import iterate_tfrecord
    from pipelines.records.writer import SetWriter, is_current

__all__ = [
    "FEATURES",
    "SetWriter",
    "check_shards",
    "deserialise",
    "find_sets",
    "is_current",
    "item_count",
    "iterate_tfrecord",
    "parse",
    "read_features",
    "read_first_records",
    "read_inputs",
    "read_manifest",
    "serialise",
    "spec_of",
    "verify",
]

_MODULE_OF = {
    "FEATURES": "schema",
    "SetWriter": "writer",
    "check_shards": "reader",
    "deserialise": "schema",
    "find_sets": "reader",
    "is_current": "writer",
    "item_count": "schema",
    "iterate_tfrecord": "shards",
    "parse": "schema",
    "read_features": "reader",
    "read_first_records": "reader",
    "read_inputs": "reader",
    "read_manifest": "reader",
    "serialise": "schema",
    "spec_of": "reader",
    "verify": "reader",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)

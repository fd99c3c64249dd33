"""The ground of both packages: errors, labels, domains, numbers, files, text, the command line.

A module of this package imports no other package of the project.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.core.cli import Parser, name_pairs, names, natural_int, positive_int, run_main
    from pipelines.core.domains import DOMAINS
    from pipelines.core.errors import DataError, InputError, KerasemoError, MediaError, raise_all
    from pipelines.core.files import file_sha256, read_json, write_json
    from pipelines.core.labels import EMOTIONS, canonical_emotion, in_order
    from pipelines.core.processes import end_with_parent, processors
    from pipelines.core.progress import Bar, bar
    from pipelines.core.spec import MARKER, Spec, spaced_indices
    from pipelines.core.tensorflow_loading import load_tensorflow
    from pipelines.core.text import (
        format_duration,
        format_ranges,
        number_problems,
        pluralize,
        printable,
    )

__all__ = [
    "DOMAINS",
    "EMOTIONS",
    "MARKER",
    "Bar",
    "DataError",
    "InputError",
    "KerasemoError",
    "MediaError",
    "Parser",
    "Spec",
    "bar",
    "canonical_emotion",
    "end_with_parent",
    "file_sha256",
    "format_duration",
    "format_ranges",
    "in_order",
    "load_tensorflow",
    "name_pairs",
    "names",
    "natural_int",
    "number_problems",
    "pluralize",
    "positive_int",
    "printable",
    "processors",
    "raise_all",
    "read_json",
    "run_main",
    "spaced_indices",
    "write_json",
]

_MODULE_OF = {
    "Bar": "progress",
    "DOMAINS": "domains",
    "DataError": "errors",
    "EMOTIONS": "labels",
    "InputError": "errors",
    "KerasemoError": "errors",
    "MARKER": "spec",
    "MediaError": "errors",
    "Parser": "cli",
    "Spec": "spec",
    "bar": "progress",
    "canonical_emotion": "labels",
    "end_with_parent": "processes",
    "file_sha256": "files",
    "format_duration": "text",
    "format_ranges": "text",
    "in_order": "labels",
    "load_tensorflow": "tensorflow_loading",
    "name_pairs": "cli",
    "names": "cli",
    "natural_int": "cli",
    "number_problems": "text",
    "pluralize": "text",
    "positive_int": "cli",
    "printable": "text",
    "processors": "processes",
    "raise_all": "errors",
    "read_json": "files",
    "run_main": "cli",
    "spaced_indices": "spec",
    "write_json": "files",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)

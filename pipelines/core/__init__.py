"""The ground of both packages: errors, labels, domains, numbers, files, text, the command line.

A module of this package imports no other package of the project.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.core.cli import Parser, name_pairs, names, natural_int, positive_int, run_main
    from pipelines.core.domains import DOMAIN_FACTS, DOMAINS, Domain, domain_facts
    from pipelines.core.errors import (
        DataError,
        InputError,
        KerasemoError,
        MediaError,
        RunError,
        StorageError,
        raise_all,
    )
    from pipelines.core.files import (
        atomic_path,
        bytes_sha256,
        file_sha256,
        json_sha256,
        read_json,
        storage_errors,
        sync_file,
        text_sha256,
        write_json,
        write_text,
    )
    from pipelines.core.labels import (
        EMOTIONS,
        SYNONYMS,
        LabelMap,
        canonical_emotion,
        fold_word,
        in_order,
        read_label_map,
    )
    from pipelines.core.locks import lock_descriptor, locked, locked_folder
    from pipelines.core.logs import ContextLogger, format_record, handled_by, shown_on_stderr
    from pipelines.core.processes import end_with_parent, processor_count
    from pipelines.core.progress import ProgressBar, progress_bar
    from pipelines.core.spec import SAMPLE_MARKER, Spec, spaced_indices
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
    "DOMAIN_FACTS",
    "EMOTIONS",
    "SAMPLE_MARKER",
    "SYNONYMS",
    "ContextLogger",
    "DataError",
    "Domain",
    "InputError",
    "KerasemoError",
    "LabelMap",
    "MediaError",
    "Parser",
    "ProgressBar",
    "RunError",
    "Spec",
    "StorageError",
    "atomic_path",
    "bytes_sha256",
    "canonical_emotion",
    "domain_facts",
    "end_with_parent",
    "file_sha256",
    "fold_word",
    "format_duration",
    "format_ranges",
    "format_record",
    "handled_by",
    "in_order",
    "json_sha256",
    "load_tensorflow",
    "lock_descriptor",
    "locked",
    "locked_folder",
    "name_pairs",
    "names",
    "natural_int",
    "number_problems",
    "pluralize",
    "positive_int",
    "printable",
    "processor_count",
    "progress_bar",
    "raise_all",
    "read_json",
    "read_label_map",
    "run_main",
    "shown_on_stderr",
    "spaced_indices",
    "storage_errors",
    "sync_file",
    "text_sha256",
    "write_json",
    "write_text",
]

_MODULE_OF = {
    "ContextLogger": "logs",
    "DOMAINS": "domains",
    "DOMAIN_FACTS": "domains",
    "DataError": "errors",
    "Domain": "domains",
    "EMOTIONS": "labels",
    "InputError": "errors",
    "KerasemoError": "errors",
    "LabelMap": "labels",
    "MediaError": "errors",
    "Parser": "cli",
    "ProgressBar": "progress",
    "RunError": "errors",
    "SAMPLE_MARKER": "spec",
    "SYNONYMS": "labels",
    "Spec": "spec",
    "StorageError": "errors",
    "atomic_path": "files",
    "bytes_sha256": "files",
    "canonical_emotion": "labels",
    "domain_facts": "domains",
    "end_with_parent": "processes",
    "file_sha256": "files",
    "fold_word": "labels",
    "format_duration": "text",
    "format_ranges": "text",
    "format_record": "logs",
    "handled_by": "logs",
    "in_order": "labels",
    "json_sha256": "files",
    "load_tensorflow": "tensorflow_loading",
    "lock_descriptor": "locks",
    "locked": "locks",
    "locked_folder": "locks",
    "name_pairs": "cli",
    "names": "cli",
    "natural_int": "cli",
    "number_problems": "text",
    "pluralize": "text",
    "positive_int": "cli",
    "printable": "text",
    "processor_count": "processes",
    "progress_bar": "progress",
    "raise_all": "errors",
    "read_json": "files",
    "read_label_map": "labels",
    "run_main": "cli",
    "shown_on_stderr": "logs",
    "spaced_indices": "spec",
    "storage_errors": "files",
    "sync_file": "files",
    "text_sha256": "files",
    "write_json": "files",
    "write_text": "files",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)

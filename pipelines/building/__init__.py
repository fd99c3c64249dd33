"""Build sets of records from the clips of a corpus, and report what was found.

May import every package of `pipelines` except `overlay` and `synthetic`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.building.builder import BuildOptions, build
    from pipelines.building.findings import set_table
    from pipelines.building.graph import StalledError

__all__ = ["BuildOptions", "StalledError", "build", "set_table"]

_MODULE_OF = {
    "BuildOptions": "builder",
    "StalledError": "graph",
    "build": "builder",
    "set_table": "findings",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)

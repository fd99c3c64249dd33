"""Records as arrays: catalog, splits with the leakage gate, sampling, segmentation, batches.

May import `pipelines.records`, `pipelines.features`, `kerasemo.config` and `kerasemo.networks.random`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.datasets.batches import Plan, Share
    from kerasemo.datasets.catalog import Holdings, corpora_of, side_of
    from kerasemo.datasets.lazy_arrays import Gathered
    from kerasemo.datasets.sampling import (
        couples,
        hardness_at,
        labelled_plan,
        mixed,
        pair_plan,
        varied,
        with_hard_negatives,
    )
    from kerasemo.datasets.segmentation import (
        Cut,
        Utterances,
        finisher,
        is_transductive,
        loader,
        read,
        read_cut,
        why_not_read,
    )
    from kerasemo.datasets.sources import Side, Source, manifest_hash, read_source, set_folder
    from kerasemo.datasets.splits import SIDES, Sides, fold_count, one_per_utterance, sides, stamp
    from kerasemo.datasets.subsets import class_weights, labelled_side
    from kerasemo.datasets.waveform_variants import asked, varied_side

__all__ = [
    "SIDES",
    "Cut",
    "Gathered",
    "Holdings",
    "Plan",
    "Share",
    "Side",
    "Sides",
    "Source",
    "Utterances",
    "asked",
    "class_weights",
    "corpora_of",
    "couples",
    "finisher",
    "fold_count",
    "hardness_at",
    "is_transductive",
    "labelled_plan",
    "labelled_side",
    "loader",
    "manifest_hash",
    "mixed",
    "one_per_utterance",
    "pair_plan",
    "read",
    "read_cut",
    "read_source",
    "set_folder",
    "side_of",
    "sides",
    "stamp",
    "varied",
    "varied_side",
    "why_not_read",
    "with_hard_negatives",
]

_MODULE_OF = {
    "Cut": "segmentation",
    "Gathered": "lazy_arrays",
    "Holdings": "catalog",
    "Plan": "batches",
    "SIDES": "splits",
    "Share": "batches",
    "Side": "sources",
    "Sides": "splits",
    "Source": "sources",
    "Utterances": "segmentation",
    "asked": "waveform_variants",
    "class_weights": "subsets",
    "corpora_of": "catalog",
    "couples": "sampling",
    "finisher": "segmentation",
    "fold_count": "splits",
    "hardness_at": "sampling",
    "is_transductive": "segmentation",
    "labelled_plan": "sampling",
    "labelled_side": "subsets",
    "loader": "segmentation",
    "manifest_hash": "sources",
    "mixed": "sampling",
    "one_per_utterance": "splits",
    "pair_plan": "sampling",
    "read": "segmentation",
    "read_cut": "segmentation",
    "read_source": "sources",
    "set_folder": "sources",
    "side_of": "catalog",
    "sides": "splits",
    "stamp": "splits",
    "varied": "sampling",
    "varied_side": "waveform_variants",
    "why_not_read": "segmentation",
    "with_hard_negatives": "sampling",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)

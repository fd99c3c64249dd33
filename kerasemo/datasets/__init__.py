"""Records as arrays: catalog, splits with the leakage gate, sampling, segmentation, batches.

May import `pipelines.records`, `pipelines.features`, `kerasemo.config` and
`kerasemo.networks.random`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.datasets.batches import WHOLE_BATCH, Batch, BatchShare, BatchStream
    from kerasemo.datasets.catalog import RecordCatalog, corpora_of
    from kerasemo.datasets.lazy_arrays import GatheredItems
    from kerasemo.datasets.leakage_gate import GatedSplits, copies_stamp, split_sources
    from kerasemo.datasets.sampling import (
        Draw,
        Sampler,
        draw_mixup,
        draw_variants,
        hardness_at,
        item_sampler,
        pair_sampler,
        source_pairs,
        with_hard_negatives,
    )
    from kerasemo.datasets.segmentation import Segmentation, normalization
    from kerasemo.datasets.sources import (
        Source,
        Subset,
        corpus_of,
        manifest_hash,
        read_source,
        set_folder,
    )
    from kerasemo.datasets.splits import SPLITS, fold_count, one_per_utterance
    from kerasemo.datasets.subsets import class_weights, labelled_subset
    from kerasemo.datasets.waveform_variants import changes_waveform, with_variants

__all__ = [
    "SPLITS",
    "WHOLE_BATCH",
    "Batch",
    "BatchShare",
    "BatchStream",
    "Draw",
    "GatedSplits",
    "GatheredItems",
    "RecordCatalog",
    "Sampler",
    "Segmentation",
    "Source",
    "Subset",
    "changes_waveform",
    "class_weights",
    "copies_stamp",
    "corpora_of",
    "corpus_of",
    "draw_mixup",
    "draw_variants",
    "fold_count",
    "hardness_at",
    "item_sampler",
    "labelled_subset",
    "manifest_hash",
    "normalization",
    "one_per_utterance",
    "pair_sampler",
    "read_source",
    "set_folder",
    "source_pairs",
    "split_sources",
    "with_hard_negatives",
    "with_variants",
]

_MODULE_OF = {
    "Batch": "batches",
    "BatchShare": "batches",
    "BatchStream": "batches",
    "Draw": "sampling",
    "GatedSplits": "leakage_gate",
    "GatheredItems": "lazy_arrays",
    "RecordCatalog": "catalog",
    "SPLITS": "splits",
    "Sampler": "sampling",
    "Segmentation": "segmentation",
    "Source": "sources",
    "Subset": "sources",
    "WHOLE_BATCH": "batches",
    "changes_waveform": "waveform_variants",
    "class_weights": "subsets",
    "copies_stamp": "leakage_gate",
    "corpora_of": "catalog",
    "corpus_of": "sources",
    "draw_mixup": "sampling",
    "draw_variants": "sampling",
    "fold_count": "splits",
    "hardness_at": "sampling",
    "item_sampler": "sampling",
    "labelled_subset": "subsets",
    "manifest_hash": "sources",
    "normalization": "segmentation",
    "one_per_utterance": "splits",
    "pair_sampler": "sampling",
    "read_source": "sources",
    "set_folder": "sources",
    "source_pairs": "sampling",
    "split_sources": "leakage_gate",
    "with_hard_negatives": "sampling",
    "with_variants": "waveform_variants",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)

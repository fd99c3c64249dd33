"""Synthesise small corpora in the layouts of eNTERFACE'05, SAVEE and EMO-DB.

May import `pipelines.core` and `pipelines.corpora`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.synthetic.corpora import plan_utterances, speaker_person, write_samples
    from pipelines.synthetic.film import SCENES, film_clip

__all__ = ["SCENES", "film_clip", "plan_utterances", "speaker_person", "write_samples"]

_MODULE_OF = {
    "SCENES": "film",
    "film_clip": "film",
    "plan_utterances": "corpora",
    "speaker_person": "corpora",
    "write_samples": "corpora",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)

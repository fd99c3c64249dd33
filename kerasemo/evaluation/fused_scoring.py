"""The answers to utterances of which face and voice are both there: fused, as fitted on validation utterances, and scored."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kerasemo.datasets import segmentation
from kerasemo.datasets.catalog import side_of
from kerasemo.datasets.sources import Side, Source
from kerasemo.datasets.splits import Sides
from kerasemo.evaluation import scoring
from kerasemo.metrics import classification
from kerasemo.metrics import fusion as fusion_module
from kerasemo.metrics.fusion import Fusion, fuse
from kerasemo.networks import inference
from kerasemo.runs import lineage
from pipelines.core.domains import DOMAINS

FUSED = "fused"
"""What stands in place of the domain: `savee/fused`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """What is said of the utterances of one set, in one domain."""

    utterances: np.ndarray
    """str [utterances], sorted, each once."""
    labels: np.ndarray
    """int [utterances], indices of EMOTIONS."""
    masked: np.ndarray
    """float64 [utterances, 10]; see `scoring.score_clips`."""
    served: np.ndarray | None


Pairs = Mapping[str, tuple[Answers, Answers]]
"""Corpus -> the answers by face and by voice to the same utterances."""


def answers(
    utterances: Sequence[str], labels: np.ndarray, masked: np.ndarray, served: np.ndarray | None
) -> Answers:
    """Return the answers to utterances, each the mean over its clips.

    Args:
        utterances: That of each clip.
        labels: int [clips], indices of EMOTIONS.
        masked: float64 [clips, 10].
        served: The same, or None.
    """
    names, first, of = np.unique(np.asarray(utterances), return_index=True, return_inverse=True)
    means = [
        None if values is None else classification.clip_means(values, of)
        for values in (masked, served)
    ]
    return Answers(names, np.asarray(labels)[first], *means)


def answers_of(outputs: Mapping[str, np.ndarray], side: Side, *, trained: Sequence[str]) -> Answers:
    """Return what outputs of `scoring.forward` say of the utterances of a side."""
    clips, _, labels = scoring.side_items(side)
    said = scoring.side_probabilities(outputs, side, trained=trained)
    return answers([side.source.rows[clip]["utterance"] for clip in clips], labels, *said)


def pairs_of(said: Mapping[str, Answers]) -> Pairs:
    """Return the answers to the utterances that both domains of a corpus have, by corpus; `said` has those of each source."""
    pairs = {}
    for corpus in dict.fromkeys(source.partition("/")[0] for source in said):
        both = [said.get(f"{corpus}/{domain}") for domain in DOMAINS]
        if None not in both:
            common, *places = np.intersect1d(
                *(one.utterances for one in both), assume_unique=True, return_indices=True
            )
            if len(common):
                pairs[corpus] = tuple(
                    _chosen(one, place) for one, place in zip(both, places, strict=True)
                )
    return pairs


def _chosen(one: Answers, places: np.ndarray) -> Answers:
    return Answers(
        *(
            None if values is None else values[places]
            for values in (one.utterances, one.labels, one.masked, one.served)
        )
    )


def fit(pairs: Pairs, kind: str) -> Fusion:
    """Return the fusion that is fitted on utterances of all corpora together, `masked` or `served`; without any, the default one.

    Utterances of an emotion that cannot be answered are left out.
    """
    visual, audio, labels = [], [], []
    for face, voice in pairs.values():
        said = [getattr(one, kind) for one in (face, voice)]
        if said[0] is not None and said[1] is not None:
            own = np.arange(len(face.labels)), face.labels
            known = (said[0][own] > 0) | (said[1][own] > 0)
            visual.append(said[0][known])
            audio.append(said[1][known])
            labels.append(face.labels[known])
    if not sum(map(len, labels)):
        return Fusion()
    return fusion_module.fit_fusion(
        np.concatenate(visual), np.concatenate(audio), np.concatenate(labels)
    )


def score(
    pair: tuple[Answers, Answers],
    *,
    corpus: Sequence[str],
    trained: Sequence[str],
    masked: Fusion,
    served: Fusion,
) -> dict | None:
    """Score the fused answers to a corpus' utterances.

    Args:
        pair: The answers by face and by voice.
        corpus: The corpus' emotions.
        trained: Those that the network was trained on.
        masked: How answers that know the corpus are fused.
        served: How those are that do not.

    Returns:
        `scoring.score_clips`, and the `fusion` of each of the two; None where no utterance is of an emotion that was trained.
    """
    face, voice = pair
    if not np.isin(
        face.labels, np.flatnonzero(scoring.emotion_mask(set(corpus) & set(trained)))
    ).any():
        return None
    with_corpus = fuse(masked, face.masked, voice.masked)
    without = (
        None
        if face.served is None or voice.served is None
        else fuse(served, face.served, voice.served)
    )
    found = scoring.score_clips(with_corpus, without, face.labels, corpus=corpus, trained=trained)
    if without is not None:
        found["without_corpus"]["fusion"] = dataclasses.asdict(served)
    return found | {"fusion": dataclasses.asdict(masked)}


class Both:
    """Gathers what a network says of the sources of an evaluation, and scores face and voice together."""

    def __init__(
        self,
        of: lineage.Lineage,
        sides: Sides,
        predict: inference.Predict,
        seen: Sequence[bool],
        *,
        asked: Iterable[str],
    ):
        """Take a stage, the sides of its records, what `of.network()` returns, and the sources that are scored."""
        self._sides, self._predict, self._trained = sides, predict, of.result["trained_emotions"]
        answers = all(seen) and of.result["kind"] != "contrastive"
        self._tested = _with_both(asked, sides) if answers else []
        corpora = {source.partition("/")[0] for source in of.trained_on}
        validated = [source for source in sides.ids if source.partition("/")[0] in corpora]
        self._validated = _with_both(validated, sides) if answers else []
        self._on_test: dict[str, Answers] = {}
        self._on_validation: dict[str, Answers | None] = {}
        self._emotions: dict[str, list[str]] = {}

    def test(self, side: Side, outputs: Mapping[str, np.ndarray]) -> None:
        """Take a test side and the outputs of `scoring.forward` for it."""
        if side.source.name in self._tested:
            self._on_test[side.source.name] = answers_of(outputs, side, trained=self._trained)
            self._emotions[side.source.name.partition("/")[0]] = side.source.emotions

    def validate(self, source: Source) -> None:
        """Run the network on a source's validation side, where a score or `fusion` will need it."""
        if self._tested and source.name in self._validated:
            self._run(source)

    def _run(self, source: Source) -> None:
        side = side_of(source, self._sides, "validation")
        outputs = scoring.forward(self._predict, side) if len(side.items) else {}
        self._on_validation[source.name] = (
            answers_of(outputs, side, trained=self._trained) if "logits" in outputs else None
        )

    def fusion(self, kind: str, load: Callable[[str], Source]) -> Fusion:
        """Return what `fit` makes of the validation utterances of the corpora that were trained on; `load` reads a source."""
        for name in self._validated:
            if name not in self._on_validation:
                self._run(load(name))
        return fit(
            pairs_of(
                {name: said for name, said in self._on_validation.items() if said is not None}
            ),
            kind,
        )

    def scores(
        self, load: Callable[[str], Source], *, alone: Mapping[str, dict]
    ) -> dict[str, dict]:
        """Return the score of each `CORPUS/fused`, with the stamps of its two sources' own scores; see `score`."""
        found = {}
        for corpus, pair in pairs_of(self._on_test).items():
            fusions = {kind: self.fusion(kind, load) for kind in ("masked", "served")}
            own = score(pair, corpus=self._emotions[corpus], trained=self._trained, **fusions)
            if own is not None:
                both = [alone[f"{corpus}/{domain}"] for domain in DOMAINS]
                own |= {
                    stamp: any(one[stamp] for one in both)
                    for stamp in ("deduplicated", "publisher_split", "transductive")
                }
                own["copies_in_training"] = sum(one["copies_in_training"] for one in both)
                found[f"{corpus}/{FUSED}"] = own
        return found


def _with_both(sources: Iterable[str], sides: Sides) -> list[str]:
    """Return those of some sources whose corpus has both domains among them, with clips."""
    there = [source for source in sources if source in sides.ids]
    return [
        source
        for source in there
        if all(f"{source.partition('/')[0]}/{domain}" in there for domain in DOMAINS)
    ]


def fitted(run: Path, stage: str, records: Path) -> Fusion:
    """Return the fusion of what is served: no corpus known, every trained emotion a possible answer.

    It is fitted on the validation utterances that have both domains, of the corpora that the stage and those before it were trained on,
    and is the `without_corpus` fusion of `kerasemo.evaluate`. Without any (a contrastive stage and one with a head for each corpus
    serve no answers) it is the default one, which says 0 utterances.

    Args:
        run: The run folder.
        stage: A finished stage of it.
        records: Those it was trained on.

    Raises:
        InputError: No such stage, or records that are not those it was trained on.
    """
    of = lineage.find(run, stage)
    sides = of.sides(records, asked=of.trained_on, there=lineage.sources_in(records))
    both = Both(of, sides, *of.network(), asked=())
    return both.fusion("served", segmentation.loader(records, of.result["key"]["stage"]))

"""Fuse the predictions of utterances by face and by voice, as fitted on validation utterances."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from kerasemo.datasets.catalog import RecordCatalog, corpora_of
from kerasemo.datasets.leakage_gate import GatedSplits
from kerasemo.datasets.segmentation import Segmentation
from kerasemo.datasets.sources import Subset, corpus_of
from kerasemo.evaluation import scoring
from kerasemo.evaluation.scoring import ClipProbabilities
from kerasemo.metrics import classification
from kerasemo.metrics.fusion import Fusion, fit_fusion, fuse
from kerasemo.networks.inference import NetworkOutputs, NetworkPredictor
from kerasemo.runs.lineage import Lineage
from pipelines.core.domains import DOMAINS

FUSED = "fused"
"""The value in place of the domain: `savee/fused`."""

Kind = Literal["with_corpus", "open"]
"""Which probabilities are fused; see `scoring.ClipProbabilities`."""


@dataclasses.dataclass(frozen=True, eq=False)
class UtteranceProbabilities:
    """The probabilities of the utterances of one source."""

    utterances: np.ndarray
    """str [utterances], sorted and unique."""
    labels: np.ndarray
    """int [utterances], indices of EMOTIONS."""
    probabilities: ClipProbabilities
    """float64 [utterances, 10]."""

    def at(self, places: np.ndarray) -> "UtteranceProbabilities":
        """Return the utterances at some places, int [n]."""
        open_ = self.probabilities.open
        probabilities = ClipProbabilities(
            self.probabilities.with_corpus[places], None if open_ is None else open_[places]
        )
        return UtteranceProbabilities(self.utterances[places], self.labels[places], probabilities)


FaceAndVoice = tuple[UtteranceProbabilities, UtteranceProbabilities]
"""The probabilities of the same utterances by face and by voice."""


def utterance_probabilities(
    utterances: Sequence[str], labels: np.ndarray, probabilities: ClipProbabilities
) -> UtteranceProbabilities:
    """Return the probabilities of utterances, each the mean over its clips.

    Args:
        utterances: The utterance of each clip.
        labels: int [clips], indices of EMOTIONS.
        probabilities: float64 [clips, 10].
    """
    names, first_clip, utterance_of = np.unique(
        np.asarray(utterances), return_index=True, return_inverse=True
    )
    open_ = probabilities.open
    means = ClipProbabilities(
        classification.clip_means(probabilities.with_corpus, utterance_of),
        None if open_ is None else classification.clip_means(open_, utterance_of),
    )
    return UtteranceProbabilities(names, np.asarray(labels)[first_clip], means)


def subset_utterance_probabilities(
    outputs: NetworkOutputs, subset: Subset, *, trained_emotions: Sequence[str]
) -> UtteranceProbabilities:
    """Return the probabilities of the utterances of a subset by the outputs for its items."""
    items = scoring.clip_items(subset)
    return utterance_probabilities(
        [subset.source.rows[clip]["utterance"] for clip in items.clips],
        items.labels,
        scoring.clip_probabilities(outputs, subset, trained_emotions=trained_emotions),
    )


def match_utterances(
    by_source: Mapping[str, UtteranceProbabilities],
) -> dict[str, FaceAndVoice]:
    """Return, for each corpus, the utterances that have a face and a voice."""
    matched: dict[str, FaceAndVoice] = {}
    for corpus in dict.fromkeys(map(corpus_of, by_source)):
        names = [f"{corpus}/{domain}" for domain in DOMAINS]
        if not all(name in by_source for name in names):
            continue
        face, voice = (by_source[name] for name in names)
        common, face_places, voice_places = np.intersect1d(
            face.utterances, voice.utterances, assume_unique=True, return_indices=True
        )
        if len(common):
            matched[corpus] = face.at(face_places), voice.at(voice_places)
    return matched


def fit_on_utterances(matched: Iterable[FaceAndVoice], kind: Kind) -> Fusion:
    """Return the fusion that is fitted on the utterances of all corpora together.

    Utterances of an emotion that cannot be predicted are left out. Without utterances the default
    fusion is returned.
    """
    visual, audio, labels = [], [], []
    for face, voice in matched:
        of_face, of_voice = (getattr(of_domain.probabilities, kind) for of_domain in (face, voice))
        if of_face is None or of_voice is None:
            continue
        of_label = np.arange(len(face.labels)), face.labels
        can_be_predicted = (of_face[of_label] > 0) | (of_voice[of_label] > 0)
        visual.append(of_face[can_be_predicted])
        audio.append(of_voice[can_be_predicted])
        labels.append(face.labels[can_be_predicted])
    if not sum(map(len, labels)):
        return Fusion()
    return fit_fusion(np.concatenate(visual), np.concatenate(audio), np.concatenate(labels))


def score_fused(
    face: UtteranceProbabilities,
    voice: UtteranceProbabilities,
    *,
    corpus_emotions: Sequence[str],
    trained_emotions: Sequence[str],
    fusion: Fusion,
    open_fusion: Fusion,
) -> dict[str, Any] | None:
    """Score the fused predictions of a corpus's utterances.

    Args:
        face: The probabilities by face.
        voice: The probabilities of the same utterances by voice.
        corpus_emotions: The emotions of the corpus.
        trained_emotions: The emotions that the network was trained on.
        fusion: Fuses probabilities that know the corpus.
        open_fusion: Fuses open probabilities.

    Returns:
        The result of `scoring.score_clips`, with the `fusion` of both kinds of probabilities; None
        if no utterance has a trained emotion.
    """
    shared = set(corpus_emotions) & set(trained_emotions)
    if not np.isin(face.labels, np.flatnonzero(scoring.emotion_mask(shared))).any():
        return None
    of_face, of_voice = face.probabilities, voice.probabilities
    fused_open = None
    if of_face.open is not None and of_voice.open is not None:
        fused_open = fuse(open_fusion, of_face.open, of_voice.open)
    fused = ClipProbabilities(fuse(fusion, of_face.with_corpus, of_voice.with_corpus), fused_open)
    score = scoring.score_clips(
        fused, face.labels, corpus_emotions=corpus_emotions, trained_emotions=trained_emotions
    )
    if fused_open is not None:
        score["without_corpus"]["fusion"] = dataclasses.asdict(open_fusion)
    return score | {"fusion": dataclasses.asdict(fusion)}


class FusedEvaluation:
    """Scores face and voice together in the evaluation of a stage.

    Args:
        lineage: The stage.
        catalog: The records.
        splits: The splits of the records.
        predict: Runs the network of the stage.
        trained_domains: bool [domains]: the domains that the network was trained on.
        sources: The sources that are scored.
    """

    def __init__(
        self,
        lineage: Lineage,
        catalog: RecordCatalog,
        splits: GatedSplits,
        predict: NetworkPredictor,
        trained_domains: np.ndarray,
        *,
        sources: Iterable[str],
    ) -> None:
        self._catalog = catalog
        self._splits = splits
        self._predict = predict
        self._segmentation = Segmentation.for_scores(lineage.last.config)
        self._trained_emotions = lineage.last.trained_emotions
        can_fuse = all(trained_domains) and lineage.last.config.kind != "contrastive"
        trained_corpora = corpora_of(lineage.trained_on)
        of_trained = [source for source in splits.clip_ids if corpus_of(source) in trained_corpora]
        self._test_sources = _with_both_domains(sources, splits) if can_fuse else []
        self._validation_sources = _with_both_domains(of_trained, splits) if can_fuse else []
        self._on_test: dict[str, UtteranceProbabilities] = {}
        self._on_validation: dict[str, UtteranceProbabilities] | None = None
        self._corpus_emotions: dict[str, list[str]] = {}

    def add_test_outputs(self, subset: Subset, outputs: NetworkOutputs) -> None:
        """Add the outputs for the test clips of a source."""
        source = subset.source
        if source.name in self._test_sources:
            self._on_test[source.name] = subset_utterance_probabilities(
                outputs, subset, trained_emotions=self._trained_emotions
            )
            self._corpus_emotions[corpus_of(source.name)] = source.emotions

    def fit(self, kind: Kind) -> Fusion:
        """Return the fusion fitted to the validation utterances of the training corpora."""
        if self._on_validation is None:
            self._on_validation = self._predict_validation()
        return fit_on_utterances(match_utterances(self._on_validation).values(), kind)

    def scores(
        self, scores_of_sources: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Return the score of each `CORPUS/fused`.

        Args:
            scores_of_sources: The scores of the sources, whose remarks the fused scores carry.
        """
        scores = {}
        for corpus, (face, voice) in match_utterances(self._on_test).items():
            score = score_fused(
                face,
                voice,
                corpus_emotions=self._corpus_emotions[corpus],
                trained_emotions=self._trained_emotions,
                fusion=self.fit("with_corpus"),
                open_fusion=self.fit("open"),
            )
            if score is not None:
                of_domains = [scores_of_sources[f"{corpus}/{domain}"] for domain in DOMAINS]
                for remark in ("deduplicated", "publisher_split", "transductive"):
                    score[remark] = any(of_domain[remark] for of_domain in of_domains)
                score["copies_in_training"] = sum(
                    of_domain["copies_in_training"] for of_domain in of_domains
                )
                scores[f"{corpus}/{FUSED}"] = score
        return scores

    def _predict_validation(self) -> dict[str, UtteranceProbabilities]:
        by_source = {}
        for source in self._validation_sources:
            subset = self._catalog.subset(self._splits, source, "validation", self._segmentation)
            if not len(subset.items):
                continue
            outputs = scoring.predict_subset(self._predict, subset)
            if outputs.logits is not None:
                by_source[source] = subset_utterance_probabilities(
                    outputs, subset, trained_emotions=self._trained_emotions
                )
        return by_source


def _with_both_domains(sources: Iterable[str], splits: GatedSplits) -> list[str]:
    """Return the sources with clips whose corpus has all domains among them."""
    with_clips = [source for source in sources if source in splits.clip_ids]
    return [
        source
        for source in with_clips
        if all(f"{corpus_of(source)}/{domain}" in with_clips for domain in DOMAINS)
    ]


def fit_served_fusion(lineage: Lineage, catalog: RecordCatalog) -> Fusion:
    """Return the fusion of an exported model, for which every trained emotion is possible.

    It is fitted on the validation utterances with face and voice, of the corpora that the stages
    were trained on. It equals the `without_corpus` fusion of `kerasemo.evaluate`. A contrastive
    stage has no open predictions, nor has a stage with a head for each corpus. Their fusion is the
    default, with 0 utterances.

    Args:
        lineage: The stage.
        catalog: The records that the stages were trained on.

    Raises:
        InputError: Records are missing.
        DataError: Records differ from the records of the training.
    """
    network = lineage.load_network()
    evaluation = FusedEvaluation(
        lineage,
        catalog,
        lineage.split(catalog),
        network.predictor(),
        network.trained_domains(),
        sources=(),
    )
    return evaluation.fit("open")

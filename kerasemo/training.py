"""One stage, from its parent's weights to its result on the test side."""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasemo import checkpoint, data, monitor, plans, runs, scores
from kerasemo.config import Network, Stage
from kerasemo.model import build_network
from kerasemo.stages import MODELS
from pipelines import progress, records
from pipelines.spec import DOMAINS, EMOTIONS, InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Assignment:
    """All that the training of one stage needs."""

    stage: Stage
    network: Network
    folder: Path
    """`RUN/STAGE`."""
    key: Mapping[str, Any]
    """What the result depends on, ready for JSON."""
    sides: Mapping[str, list[data.Side]]
    """Side -> the items of each source on it."""
    emotions: list[str]
    """Those that the network has been trained on once this stage is done."""
    split: Mapping[str, Any]
    """How each source was split, and what the gate dropped: what the result is stamped with."""
    parent: Path | None
    """The folder of the finished stage to start from."""
    seed: int
    strategy: tf.distribute.Strategy | None


class Training:
    """Trains one stage, or goes on with it from the last finished epoch."""

    def __init__(self, assignment: Assignment, *, log: Callable[[str], None]):
        self._work = assignment
        self._stage = assignment.stage
        self._sides = assignment.sides
        self._log = log
        self._watch = "val_pair_auc" if self._stage.kind == "contrastive" else "val_ua"
        self._replicas = assignment.strategy.num_replicas_in_sync if assignment.strategy else 1
        for side, sources in self._sides.items():
            for part in sources:
                if not len(part.items):
                    where = f"{side} side under {assignment.key['protocol']}, fold {assignment.key['fold']}"
                    raise InputError(f"{part.source.name}: no clip on the {where}; build more of the corpus")
                emotions = {EMOTIONS[label] for label in part.labels}
                if not emotions & set(assignment.emotions):
                    names = f"{', '.join(sorted(emotions))} on the {side} side, trained on {', '.join(assignment.emotions)}"
                    raise InputError(
                        f"{part.source.name}: {names}, so nothing can be scored; take another fold or build more of the corpus"
                    )
        self._plan = self._planned("train", self._stage.batch, assignment.seed)
        self._validation_plan = self._planned("validation", self._validation_batch(), assignment.seed + 1)
        if self._stage.kind == "contrastive":
            self._test_pairs = self._planned("test", 2 * len(plans.couples(len(self._sides["test"]))), assignment.seed + 2)(0)
            for side, drawn in (("validation", self._validation_plan(0)), ("test", self._test_pairs)):
                if len(set(scores.same_emotion(drawn, self._sides[side]))) < 2:
                    raise InputError(f"{' + '.join(self._stage.sources)}: too few clips on the {side} side for pairs of both kinds")

    def run(self) -> dict[str, Any]:
        """Train, score the test side, write the stage's folder, and return what `metrics.json` says."""
        stage, folder, key = self._stage, self._work.folder, self._work.key
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        records.write_json(folder / "stage.json", {"key": key, "digest": runs.digest(key), "versions": runs.versions()})
        self._build()
        history = self._resume()
        with progress.bar(stage.name, unit="steps") as bar:
            history, best_epoch = self._fit(history, bar)
        tensors, _ = checkpoint.load(folder / "checkpoints" / "best.safetensors")
        checkpoint.assign(self._model.weights, tensors, where=folder)
        checkpoint.save(folder / "weights.safetensors", self._model.weights, {"stage": stage.name, "digest": runs.digest(key)})
        sources, rows = self._test()
        scores.write_predictions(folder / "predictions.csv", rows)
        result = {
            "key": key,
            "stage": stage.name,
            "kind": stage.kind,
            "protocol": key["protocol"],
            "fold": key["fold"],
            "trained_on": list(stage.sources),
            "trained_emotions": self._work.emotions,
            "epochs": stage.epochs,
            "best_epoch": best_epoch + 1,
            "history": history,
            "split": self._work.split,
            "sources": sources,
        }
        records.write_json(folder / "metrics.json", result)
        return result

    def _planned(self, side: str, batch: int, seed: int) -> data.Plan:
        if self._stage.kind == "supervised":
            return plans.labelled_plan(self._sides[side][0], batch=batch, seed=seed)
        return plans.pair_plan(self._sides[side], pairs=batch // 2, seed=seed)

    def _validation_batch(self) -> int:
        """Return the batch of the validation loss: full batches, the same in every epoch; a small side makes small ones."""
        multiple = self._replicas
        if self._stage.kind != "supervised":
            multiple *= 2 * len(plans.couples(len(self._sides["validation"])))
        most = min(self._stage.batch, max(len(side.items) for side in self._sides["validation"]))
        return max(multiple, most // multiple * multiple)

    def _build(self) -> None:
        """Make the model and its optimiser, with the parent's weights and the statistics of the inputs."""
        stage, steps = self._stage, len(self._plan(0)["item"])
        keras.utils.set_random_seed(self._work.seed)
        with self._work.strategy.scope() if self._work.strategy else contextlib.nullcontext():
            inputs, outputs = build_network(self._work.network)
            self._model = MODELS[stage.kind](
                inputs,
                outputs,
                sources=stage.sources,
                label_smoothing=stage.label_smoothing,
                margin=stage.margin,
                contrastive_weight=stage.contrastive_weight,
            )
            rate = keras.optimizers.schedules.CosineDecay(stage.learning_rate, steps * stage.epochs)
            self._model.compile(optimizer=keras.optimizers.AdamW(rate, weight_decay=stage.weight_decay, name="optimizer"))
            self._model.optimizer.build(self._model.trainable_weights)
        self._predict = scores.predictor(self._model)
        if self._work.parent is not None:
            self._start_from(self._work.parent)
        self._fit_normalization()

    def _start_from(self, parent: Path) -> None:
        """Take over the parent's weights; an emotion that is new to the chain keeps its fresh row of the head."""
        tensors, _ = checkpoint.load(parent / "weights.safetensors")
        known = scores.emotion_mask(runs.finished(parent)["trained_emotions"])
        for variable in self._model.get_layer("head").weights:  # kernel [embedding, 10], bias [10]
            tensors[variable.path] = np.where(known, tensors[variable.path], keras.ops.convert_to_numpy(variable))
        checkpoint.assign(self._model.weights, tensors, where=parent)

    def _fit_normalization(self) -> None:
        """Set the input statistics of each domain that the chain sees for the first time, from the training clips."""
        layer = self._model.get_layer("normalization")
        for domain in sorted({side.source.domain for side in self._sides["train"]}):
            if not runs.seen_domains(self._model)[domain]:
                sides = [side for side in self._sides["train"] if side.source.domain == domain]
                layer.fit(DOMAINS[domain], data.Gathered(sides))

    def _state(self) -> list[keras.Variable]:
        return [*self._model.weights, *self._model.optimizer.variables]

    def _resume(self) -> list[monitor.Logs]:
        """Take over the state of an interrupted training; return the logs of its finished epochs."""
        folder = self._work.folder / "checkpoints"
        if not (folder / "last.safetensors").is_file():
            return []
        try:
            tensors, state = checkpoint.load(folder / "last.safetensors")
            history = state["history"]
            best = monitor.best_epoch(history, self._watch) + 1
            if best != len(history) and checkpoint.load(folder / "best.safetensors")[1]["epoch"] != best:
                raise InputError(f"{folder / 'best.safetensors'}: not of epoch {best}")
        except InputError as error:
            self._log(f"{self._stage.name}: {error}; it is trained from the start")
            shutil.rmtree(folder)
            folder.mkdir()
            return []
        checkpoint.assign(self._state(), tensors, where=folder)
        if best == len(history):  # stopped, perhaps, before the best epoch's own file was written
            self._save_best(best)
        self._log(f"{self._stage.name}: goes on after epoch {len(history)} of {self._stage.epochs}")
        return history

    def _save_best(self, epoch: int) -> None:
        checkpoint.save(self._work.folder / "checkpoints" / "best.safetensors", self._model.weights, {"epoch": epoch})

    def _fit(self, history: list[monitor.Logs], bar: progress.Bar) -> tuple[list[monitor.Logs], int]:
        """Train the epochs that are left; return the logs of all epochs and the best one, from 0."""
        stage, folder = self._stage, self._work.folder
        watch = self._watch
        first_epoch = len(history)

        def save(history: list[monitor.Logs], best: bool) -> None:
            checkpoint.save(folder / "checkpoints" / "last.safetensors", self._state(), {"history": history})
            if best:
                self._save_best(len(history))

        checkpoints = monitor.Checkpoints(save, history=history, watch=watch)
        if first_epoch < stage.epochs:
            if not first_epoch:
                shutil.rmtree(folder / "logs", ignore_errors=True)
            sources = _sources(self._sides["train"])
            batches, steps = data.batches(sources, self._plan, first_epoch=first_epoch, changes=stage.augment)
            validation, _ = data.batches(_sources(self._sides["validation"]), self._validation_plan, epochs=1)
            self._model.fit(
                batches,
                steps_per_epoch=steps,
                initial_epoch=first_epoch,
                epochs=stage.epochs,
                validation_data=validation,
                shuffle=False,  # the plan does it
                verbose=0,
                callbacks=[
                    monitor.Validation(self._validate),
                    checkpoints,
                    monitor.tensorboard(folder / "logs"),
                    monitor.ProgressBar(bar, steps=steps, first_epoch=first_epoch, epochs=stage.epochs, watch=watch),
                ],
            )
        return checkpoints.history, checkpoints.best_epoch

    def _validate(self) -> monitor.Logs:
        """Return what the best epoch is chosen by: the mean over the sources of UA by clip, or the AUC of pairs."""
        sides = self._sides["validation"]
        if self._stage.kind == "contrastive":
            return {"pair_auc": scores.pair_auc(self._predict, self._validation_plan(0), sides)}
        each = {side.source.name: scores.score_side(self._predict, side, trained=self._work.emotions)[0]["ua"] for side in sides}
        logs = {f"ua_{name.replace('/', '_')}": ua for name, ua in each.items()} if len(each) > 1 else {}
        return {"ua": float(np.mean(list(each.values()))), **logs}

    def _test(self) -> tuple[dict[str, Any], list[dict]]:
        """Return the scores of each source's test side, and a row for each clip."""
        result, rows = {}, []
        for side in self._sides["test"]:
            if self._stage.kind == "contrastive":
                pairs = {"drawn": self._test_pairs, "sides": self._sides["test"]}
                result[side.source.name] = scores.score_embeddings(self._predict, self._sides["train"], side, **pairs)
            else:
                result[side.source.name], clips = scores.score_side(self._predict, side, trained=self._work.emotions)
                rows += clips
        return result, rows


def _sources(sides: list[data.Side]) -> list[data.Source]:
    return [side.source for side in sides]

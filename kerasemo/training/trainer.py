"""One stage, from its parent's weights to its scores; a training that was interrupted goes on at the very step."""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.datasets import sampling
from kerasemo.datasets.subsets import class_weights
from kerasemo.evaluation import scoring
from kerasemo.networks import inference
from kerasemo.networks.network import build_network
from kerasemo.runs import checkpoints, run_folder
from kerasemo.training import loop, monitoring, stage_models, stage_results, warm_start
from kerasemo.training.epochs import Epochs, planned
from kerasemo.training.stage_task import Assignment, check_sides, prepared
from kerasemo.training.tensorboard import Board
from kerasemo.training.validation import Validation
from pipelines.core import progress
from pipelines.core.errors import InputError, KerasemoError

STEPS_AT_ONCE = 10
"""Of so many steps the values are fetched together: a step does not wait for the one before."""


@dataclasses.dataclass
class Position:
    """Where a training stands."""

    history: list[monitoring.Logs] = dataclasses.field(default_factory=list)
    """The logs of the epochs that are done."""
    values: list[np.ndarray] = dataclasses.field(default_factory=list)
    """The values [terms] of the steps of the epoch that is under way."""
    mined: np.ndarray | None = None
    """The items of the pairs of that epoch, where they depend on the weights at its beginning."""
    events: dict[str, int] | None = None
    """The sizes of the event files."""

    @property
    def epoch(self) -> int:
        return len(self.history)


class Training:
    """Trains one stage, or goes on with it from its last state.

    Raises:
        InputError: What the sides hold does not suffice for the stage.
    """

    def __init__(self, assignment: Assignment, *, log: Callable[[str], None]):
        check_sides(assignment)
        self._work = assignment = prepared(assignment, log=log)
        self._stage = assignment.stage
        self._sides = assignment.sides
        self._log = log
        if self._stage.freeze:
            stage_models.freeze(self._model_of(assignment.network), self._stage.freeze)
        self._epochs = Epochs(self._stage, self._sides["train"], seed=assignment.seed)
        self._steps = self._epochs.steps
        self._scored_pairs = drawn = None
        if self._stage.kind != "supervised":
            multiple = 2 * len(sampling.couples(len(self._stage.sources)))
            most = min(
                self._stage.batch, max(len(side.items) for side in self._sides["validation"])
            )
            drawn = self._drawn(
                "validation", max(multiple, most // multiple * multiple), assignment.seed + 1
            )
        if self._stage.kind == "contrastive":
            self._scored_pairs = self._drawn(assignment.scored, multiple, assignment.seed + 2)
            for side, pairs in (("validation", drawn), (assignment.scored, self._scored_pairs)):
                if len(set(scoring.same_emotion(pairs, self._sides[side]))) < 2:
                    raise InputError(
                        f"{' + '.join(self._stage.sources)}: too few clips on the {side} side for pairs of both kinds"
                    )
        self._validation = Validation(
            self._stage, self._sides["validation"], drawn=drawn, emotions=assignment.emotions
        )
        self._checkpoints = checkpoints.Checkpoints(assignment.folder / "checkpoints")
        self._chief = loop.place_in_cluster(assignment.strategy)[0] == 0

    def run(self) -> dict[str, Any]:
        """Train, score, write the stage's folder, and return what `metrics.json` says."""
        folder = self._work.folder
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        with checkpoints.alone(folder) if self._chief else contextlib.nullcontext():
            self._build()
            digest = run_folder.digest([self._work.key, self._work.choice.policy])
            self._loop.agree(int(digest[:6], 16), "this command, or what it finds in the records,")
            if self._chief:
                made_with = {
                    "devices": self._work.choice.line,
                    "records_folder": str(self._work.records),
                }
                run_folder.claim(folder, self._work.key, made_with)
            position = self._resume()
            self._loop.agree(
                self._global_step(position), f"step {self._global_step(position)} here"
            )
            self._board = Board(folder / "logs", held=position.events) if self._chief else None
            if self._board:
                for name in self._board.lost:
                    self._log(
                        f"{folder / 'logs' / name}: events are missing; TensorBoard shows what comes from here on"
                    )
                self._board.configuration(
                    {
                        "key": self._work.key,
                        "versions": run_folder.versions(),
                        "devices": self._work.choice.line,
                    }
                )
            shown = progress.bar(self._stage.name, unit="images")
            with (
                shown as bar,
                loop.Interruption() as interruption,
                monitoring.profile_ended(self._work.profile),
            ):
                self._fit(
                    position, monitoring.StageBar(bar, self._stage, steps=self._steps), interruption
                )
            if self._chief:
                self._finish(position)
            self._loop.agree(
                0, "the end"
            )  # the others go on to the next stage when this one's files are there
        return run_folder.finished(folder)

    def _drawn(self, side: str, batch: int, seed: int) -> dict[str, np.ndarray]:
        return planned(self._stage, self._sides[side], side, batch=batch, seed=seed)(0)

    def _model_of(self, network: NetworkConfig) -> stage_models.StageModel:
        stage = self._stage
        settings = {
            name: getattr(stage, name)
            for name in (
                "label_smoothing",
                "margin",
                "contrastive_weight",
                "clip_norm",
                "accumulate",
            )
        }
        settings["class_weights"] = (
            class_weights(self._sides["train"]) if stage.balance == "classes" else None
        )
        layers = build_network(network, heads=max(1, len(run_folder.heads_of(self._work.key))))
        model = stage_models.MODELS[stage.kind](*layers, sources=stage.sources, **settings)
        model.mirror = stage.test_mirror
        return model

    def _build(self) -> None:
        """Make the model and its optimiser, with the parent's weights and the statistics of the inputs."""
        stage, work = self._stage, self._work
        keras.utils.set_random_seed(work.seed)
        with (
            loop.precision(work.choice.policy),
            work.strategy.scope() if work.strategy else contextlib.nullcontext(),
        ):
            self._model = self._model_of(work.network)
            stage_models.freeze(self._model, stage.freeze)
            rate = learning_rate(stage, self._steps * stage.epochs)
            averaged = {"use_ema": True, "ema_momentum": stage.ema} if stage.ema else {}
            optimizer = keras.optimizers.AdamW(
                rate, weight_decay=stage.weight_decay, name="optimizer", **averaged
            )
            self._model.compile(optimizer=optimizer, jit_compile=work.choice.jit_compile)
            optimizer.build(self._model.learnt_weights)
        self._predict = inference.predictor(self._model, heads=run_folder.heads_of(work.key))
        self._loop = loop.Loop(
            self._model, strategy=work.strategy, jit_compile=work.choice.jit_compile
        )
        if work.parent is not None:
            warm_start.start_from(self._model, work.parent)
        warm_start.fit_normalization(self._model, self._sides["train"])

    def _state(self) -> list[keras.Variable]:
        return [*self._model.weights, *self._model.optimizer.variables]

    def _global_step(self, position: Position) -> int:
        return position.epoch * self._steps + len(position.values)

    def _resume(self) -> Position:
        """Take over the newest state that is whole; return where it stands."""
        name, digest = self._stage.name, run_folder.digest(self._work.key)
        states = self._checkpoints.states()
        for path in states:
            try:
                tensors, state = checkpoints.load(path)
                if state["digest"] != digest:
                    raise InputError(f"{path}: of another training")
                history, rows = state["history"], list(tensors.pop("position/values"))
                if history:
                    self._checkpoints.best(
                        monitoring.best_epoch(history, self._validation.watch) + 1
                    )
                checkpoints.assign(self._state(), tensors, where=path)
            except KerasemoError as error:
                self._log(
                    f"{name}: {error.args[0].partition(';')[0]}; the state before it is taken"
                )
                continue
            position = Position(history, rows, tensors.get("position/mined"), state["events"])
            if self._chief:
                self._checkpoints.forget_after(self._global_step(position), position.epoch)
            if state["policy"] != self._work.choice.policy:
                self._log(
                    f"{name}: computed in {state['policy']} so far, in {self._work.choice.policy} from here on"
                )
            within = f", step {len(rows)} of {self._steps} of the next" if rows else ""
            self._log(
                f"{name}: goes on after epoch {position.epoch} of {self._stage.epochs}{within}"
            )
            return position
        if states:
            self._log(f"{name}: no state before it is whole; the stage is trained from the start")
        if self._chief:
            shutil.rmtree(self._checkpoints.folder)
            self._checkpoints.folder.mkdir()
        return Position()

    def _save(self, position: Position) -> None:
        if not self._chief:
            return
        tensors = checkpoints.arrays(self._state())
        if broken := sorted(
            name for name, values in tensors.items() if not np.isfinite(values).all()
        ):
            raise self._not_finite(position, len(position.values), broken[:3])
        tensors["position/values"] = np.array(position.values, np.float32).reshape(
            -1, len(self._loop.names)
        )
        tensors |= {} if position.mined is None else {"position/mined": position.mined}
        state = {"history": position.history, "events": self._board.flush()}
        state |= {"digest": run_folder.digest(self._work.key), "policy": self._work.choice.policy}
        self._checkpoints.save_state(self._global_step(position), tensors, state)

    def _fit(
        self, position: Position, bar: monitoring.StageBar, interruption: loop.Interruption
    ) -> None:
        """Train the epochs that are left."""
        saved = time.monotonic()
        feed = None
        bar.start(self._global_step(position))
        while position.epoch < self._stage.epochs:
            if feed is None or self._stage.hard_negatives:
                feed = self._feed(position)
            pending: list[tf.Tensor] = []
            while (done := len(position.values) + len(pending)) < self._steps:
                with monitoring.profiled(
                    self._work.folder / "logs",
                    self._work.profile,
                    position.epoch * self._steps + done + 1,
                ):
                    pending.append(self._loop.step(feed))
                due, asked = (
                    time.monotonic() - saved > self._work.checkpoint_seconds,
                    interruption.asked,
                )
                if due or asked or len(pending) >= STEPS_AT_ONCE or done + 1 == self._steps:
                    self._collect(position, pending, bar)
                    if (due or asked) and done + 1 < self._steps:
                        self._save(position)
                        saved = time.monotonic()
                if asked and done + 1 < self._steps:
                    break
            else:
                self._end_epoch(position, bar)
                saved, asked = time.monotonic(), interruption.asked
            if asked:
                at = f"{position.epoch} epochs and {len(position.values)} steps"
                self._log(
                    f"{self._stage.name}: interrupted; saved after {at}; the same command goes on from there"
                )
                raise KeyboardInterrupt

    def _feed(self, position: Position) -> Iterator:
        """Return the batches from where a training stands; only of this epoch where its pairs depend on the weights."""
        if self._stage.hard_negatives and position.mined is None:
            position.mined = self._epochs.mined(self._predict, position.epoch)
        batches = self._epochs.batches(
            position.epoch, len(position.values), mined=position.mined, share=self._loop.share
        )
        return self._loop.feed(batches)

    def _collect(
        self, position: Position, pending: list[tf.Tensor], bar: monitoring.StageBar
    ) -> None:
        """Fetch the values of the steps since the last time, write them for TensorBoard, and check them."""
        first = self._global_step(position) + 1
        values = self._loop.fetch(pending)
        pending.clear()
        if (broken := loop.first_broken(values)) is not None:
            row, terms = broken
            names = [self._loop.names[term] for term in terms]
            raise self._not_finite(position, len(position.values) + row + 1, names)
        position.values.extend(values)
        rate = bar.advance(
            dict(zip(self._loop.names, values[-1].tolist(), strict=True)), len(values)
        )
        if self._board:
            self._board.steps(
                [
                    (first + row, dict(zip(self._loop.names, map(float, step), strict=True)))
                    for row, step in enumerate(values)
                ]
            )
            self._board.speed(first + len(values) - 1, rate)

    def _end_epoch(self, position: Position, bar: monitoring.StageBar) -> None:
        """Validate, and save the state and, where they are the best so far, the weights."""
        epoch = position.epoch
        means = np.mean(np.array(position.values, np.float64), axis=0)
        logs = dict(zip(self._loop.names, means.tolist(), strict=True))
        if self._chief:
            with self._averaged():
                found, by_source = self._validation.scored(self._predict)
                weights = checkpoints.arrays(self._model.weights)
            if broken := sorted(name for name, value in found.items() if not np.isfinite(value)):
                raise self._not_finite(position, self._steps, broken)
            logs |= found
            rate = float(keras.ops.convert_to_numpy(self._model.optimizer.learning_rate))
            self._board.epoch(epoch + 1, logs | {"learning_rate": rate})
            for source, score in by_source.items():
                self._board.recall(
                    epoch + 1, source, score["emotions"], np.array(score["confusion"])
                )
            kernels = {
                variable.path
                for variable in self._model.trainable_weights
                if variable.path.endswith("kernel")
            }
            self._board.histograms(epoch + 1, {name: weights[name] for name in sorted(kernels)})
            bar.validate(self._validation.watch, logs[self._validation.watch])
        position.history.append(
            dict(sorted(logs.items()))
        )  # in the order in which a state gives them back
        position.values, position.mined = [], None
        if self._chief:
            if monitoring.best_epoch(position.history, self._validation.watch) == epoch:
                self._checkpoints.save_best(epoch + 1, weights)
            self._save(position)

    def _not_finite(self, position: Position, step: int, names: list[str]) -> InputError:
        place = f"epoch {position.epoch + 1}, step {step} of {self._steps}"
        return monitoring.not_finite(self._stage, place, names, self._checkpoints.folder)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let the model have the moving average of its weights, where the stage keeps one."""
        weights = self._model.learnt_weights if self._stage.ema else []
        own = checkpoints.arrays(weights)
        if weights:
            self._model.optimizer.finalize_variable_values(weights)
        try:
            yield
        finally:
            checkpoints.assign(weights, own, where=self._work.folder)

    def _finish(self, position: Position) -> None:
        """Keep the best weights and score them."""
        best = monitoring.best_epoch(position.history, self._validation.watch) + 1
        tensors, metadata = (
            self._checkpoints.best(best),
            {"stage": self._stage.name, "digest": run_folder.digest(self._work.key)},
        )
        checkpoints.save(self._work.folder / "weights.safetensors", tensors, metadata)
        stage_results.finish(
            self._work, position.history, best, pairs=self._scored_pairs, board=self._board
        )


def learning_rate(
    stage: StageConfig, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a stage's schedule: a rise over the first `warmup` of its steps, then a cosine down to nothing, or the rate as it is.

    Step s of w that warm up has (1 + s (w - 1) / w) / w of the rate: the first one moves the weights, too.

    Args:
        stage: Its rate, schedule and warm-up.
        steps: All of them, those of every epoch.

    >>> from kerasemo.config.loading import StageConfig
    >>> rate = learning_rate(StageConfig("a", "supervised", ("x/audio",), learning_rate=0.5, schedule="constant", warmup=0.2), 10)
    >>> [float(rate(step)) for step in (0, 1, 2, 9)]
    [0.25, 0.375, 0.5, 0.5]
    """
    rate, rising = (
        stage.learning_rate,
        min(round(stage.warmup * steps), steps - 1),
    )  # the last one is at the full rate at least
    if stage.schedule == "constant":
        start = rate / max(1, rising)
        return keras.optimizers.schedules.PolynomialDecay(
            start, max(1, rising), end_learning_rate=rate
        )
    if not rising:
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        rate / rising, steps - rising, warmup_target=rate, warmup_steps=rising
    )

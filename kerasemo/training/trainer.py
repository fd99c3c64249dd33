"""Train one stage, from its parent's weights to its scores.

An interrupted training resumes at the same step.
"""

import contextlib
import dataclasses
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasemo.config.schema import StageConfig
from kerasemo.datasets import sampling
from kerasemo.datasets.sampling import Draw
from kerasemo.datasets.subsets import class_weights
from kerasemo.evaluation import scoring
from kerasemo.networks.inference import TrainedNetwork
from kerasemo.runs import checkpoints, run_folder
from kerasemo.runs.checkpoints import CheckpointError, CheckpointFolder
from kerasemo.training import loop, monitoring, stage_models, warm_start
from kerasemo.training.epochs import TrainingBatches, stage_sampler
from kerasemo.training.loop import InterruptionHandler, StepLoop
from kerasemo.training.monitoring import StageProgress
from kerasemo.training.stage_models import StageModel
from kerasemo.training.stage_results import StageResult, score_stage
from kerasemo.training.stage_task import StageTask
from kerasemo.training.tensorboard import TensorBoardWriter
from kerasemo.training.validation import Validation
from pipelines.core import files, progress
from pipelines.core.errors import InputError, RunError
from pipelines.core.logs import ContextLogger

logger = logging.getLogger(__name__)

STEPS_PER_FETCH = 10
"""The values of so many steps are fetched together, so that a step need not wait for the one
before."""


@dataclasses.dataclass
class TrainingState:
    """The position of a training."""

    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    """The losses and scores of the finished epochs."""
    step_values: list[np.ndarray] = dataclasses.field(default_factory=list)
    """The values, float32 [values], of each step of the present epoch."""
    hard_items: np.ndarray | None = None
    """The items of the pairs of the present epoch, if they depend on the weights at its start."""
    event_sizes: dict[str, int] | None = None
    """The sizes of the event files at the last checkpoint; None for a new training."""

    @property
    def epoch(self) -> int:
        """The present epoch, from 0."""
        return len(self.history)


class StageTrainer:
    """Trains a stage, or resumes its training from the last checkpoint.

    Args:
        task: What to train.

    Attributes:
        compute: Precision, compiler and devices.

    Raises:
        InputError: The clips do not suffice, or `freeze` fits no layer.
    """

    def __init__(self, task: StageTask) -> None:
        self._task = task
        self.compute = task.compute
        self._config = task.config
        self._log = ContextLogger(logger, task.name)
        self._batches = TrainingBatches(
            self._config, task.data.subsets["train"], seed=task.draw_seed
        )
        self._steps = self._batches.steps
        if self._config.freeze:
            self._build_model()  # checks the names of the layers before any stage is trained
        validation_pairs, self._scored_pairs = self._draw_pairs()
        self._validation = Validation(
            self._config,
            task.data.subsets["validation"],
            pairs=validation_pairs,
            trained_emotions=task.trained_emotions,
        )
        self._checkpoints = CheckpointFolder(task.folder / "checkpoints")
        self._is_chief = loop.worker_position(task.strategy)[0] == 0
        self._model: StageModel
        self._loop: StepLoop
        self._tensorboard: TensorBoardWriter | None = None

    def run(self) -> StageResult:
        """Train, score and write the folder of the stage.

        Raises:
            RunError: A loss became NaN or infinite, another training holds the folder, or a worker
                is lost.
            StorageError: The disk is full, or the folder cannot be written.
            KeyboardInterrupt: The user asked to stop; the state is saved.
        """
        task = self._task
        (task.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        lock = (
            checkpoints.training_lock(task.folder) if self._is_chief else contextlib.nullcontext()
        )
        result = None
        with lock:
            self._build()
            self._check_workers_agree()
            if self._is_chief:
                facts = {
                    "devices": task.compute.description,
                    "records_folder": str(task.records_folder),
                }
                run_folder.claim_folder(task.folder, task.key, facts)
            state = self._resume()
            global_step = self._global_step(state)
            self._loop.check_agreement(global_step, f"step {global_step} of this worker")
            if self._is_chief:
                self._tensorboard = self._open_tensorboard(state)
            with (
                progress.progress_bar(task.name, unit="images") as bar,
                InterruptionHandler() as interruption,
                monitoring.profile_ended(task.profiled_steps),
            ):
                stage_progress = StageProgress(bar, self._config, steps=self._steps)
                self._fit(state, stage_progress, interruption)
            if self._is_chief:
                result = self._finish(state)
            # The other workers start the next stage when the files of this stage are complete.
            self._loop.check_agreement(0, "the end")
        if result is not None:
            return result
        stage = run_folder.read_finished_stage(task.folder)
        if stage is None:
            raise RunError(
                f"{task.folder}: the chief has not written the result of the stage; give all "
                "workers the same run folder"
            )
        return StageResult(stage)

    def _draw_pairs(self) -> tuple[Draw | None, Draw | None]:
        """Return pairs for the validation, and for the scores of a contrastive stage.

        Raises:
            InputError: There are too few clips for pairs of equal and of different emotions.
        """
        config, task = self._config, self._task
        if config.kind == "supervised":
            return None, None
        subsets = task.data.subsets
        multiple = 2 * len(sampling.source_pairs(len(config.sources)))
        largest = max(len(subset.items) for subset in subsets["validation"])
        batch = max(multiple, min(config.batch, largest) // multiple * multiple)
        validation_pairs = self._first_draw("validation", batch, task.draw_seed + 1)
        if config.kind != "contrastive":
            return validation_pairs, None
        scored_pairs = self._first_draw(task.scored_split, multiple, task.draw_seed + 2)
        for split, pairs in (("validation", validation_pairs), (task.scored_split, scored_pairs)):
            if len(set(scoring.pairs_are_equal(pairs, subsets[split]))) < 2:
                raise InputError(
                    f"{' + '.join(config.sources)}: too few clips in the {split} split for pairs "
                    "of equal and of different emotions"
                )
        return validation_pairs, scored_pairs

    def _first_draw(self, split: str, batch: int, seed: int) -> Draw:
        subsets = self._task.data.subsets[split]
        return stage_sampler(self._config, subsets, split, batch=batch, seed=seed)(0)

    def _build_model(self) -> StageModel:
        """Return the model of the stage with fresh weights."""
        balanced = self._config.balance == "classes"
        return stage_models.build_stage_model(
            self._config,
            self._task.key.network,
            n_heads=max(1, len(self._task.key.heads)),
            class_weights=class_weights(self._task.data.subsets["train"]) if balanced else None,
        )

    def _build(self) -> None:
        """Build model, optimiser and loop, with the parent's weights and the input statistics."""
        config, task = self._config, self._task
        keras.utils.set_random_seed(task.draw_seed)
        with (
            loop.dtype_policy(task.compute.policy),
            task.strategy.scope() if task.strategy else contextlib.nullcontext(),
        ):
            self._model = self._build_model()
            averaging = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
            optimizer = keras.optimizers.AdamW(
                learning_rate(config, self._steps * config.epochs),
                weight_decay=config.weight_decay,
                name="optimizer",
                **averaging,
            )
            self._model.compile(optimizer=optimizer, jit_compile=task.compute.jit_compile)
            optimizer.build(self._model.learnt_weights)
        network = TrainedNetwork(self._model, heads=task.key.heads, test_mirror=config.test_mirror)
        self._predict = network.predictor()
        self._loop = StepLoop(
            self._model, strategy=task.strategy, jit_compile=task.compute.jit_compile
        )
        if task.parent is not None:
            warm_start.assign_parent_weights(self._model, task.parent)
        warm_start.fit_normalization(self._model, task.data.subsets["train"])

    def _check_workers_agree(self) -> None:
        digest = files.json_sha256([self._task.key.to_json(), self._task.compute.policy])
        description = "this command, or what it finds in the records,"
        self._loop.check_agreement(int(digest[:6], 16), description)

    def _open_tensorboard(self, state: TrainingState) -> TensorBoardWriter:
        task = self._task
        writer = TensorBoardWriter(task.folder / "logs", event_sizes=state.event_sizes)
        for name in writer.lost_files:
            self._log.warning(
                "%s: events are missing; TensorBoard shows the events from here on",
                task.folder / "logs" / name,
            )
        writer.write_configuration(
            {
                "key": task.key.to_json(),
                "versions": run_folder.package_versions(),
                "devices": task.compute.description,
            }
        )
        return writer

    def _state_variables(self) -> list[keras.Variable]:
        return [*self._model.weights, *self._model.optimizer.variables]

    def _global_step(self, state: TrainingState) -> int:
        return state.epoch * self._steps + len(state.step_values)

    def _resume(self) -> TrainingState:
        """Load the newest undamaged state, and return how far it is."""
        paths = self._checkpoints.state_paths()
        for path in paths:
            try:
                state, policy = self._load_state(path)
            except CheckpointError as error:
                self._log.warning(
                    "%s: %s; resuming from the state before", error.path, error.problem
                )
                continue
            if self._is_chief:
                self._checkpoints.remove_after(self._global_step(state), state.epoch)
            if policy != self._task.compute.policy:
                self._log.warning(
                    "computed in %s so far, in %s from here on", policy, self._task.compute.policy
                )
            n_steps = len(state.step_values)
            within = f", step {n_steps}/{self._steps} of the next epoch" if n_steps else ""
            self._log.info("resuming after epoch %d/%d%s", state.epoch, self._config.epochs, within)
            return state
        if paths:
            self._log.warning("every state is damaged; training the stage from the start")
        if self._is_chief:
            shutil.rmtree(self._checkpoints.folder)
            self._checkpoints.folder.mkdir()
        return TrainingState()

    def _load_state(self, path: Path) -> tuple[TrainingState, str]:
        """Assign a saved state to model and optimiser; return its position and dtype policy.

        Raises:
            CheckpointError: The state, or the best weights that it needs, are damaged or of another
                training.
        """
        arrays, metadata = checkpoints.load_arrays(path)
        if metadata["digest"] != self._task.key.digest:
            raise CheckpointError(path, "of another training")
        history = metadata["history"]
        step_values = list(arrays.pop("position/values"))
        if history:
            self._checkpoints.load_best(
                monitoring.best_epoch(history, self._validation.watched) + 1
            )
        checkpoints.assign_variables(self._state_variables(), arrays, path=path)
        hard_items = arrays.get("position/mined")
        return TrainingState(history, step_values, hard_items, metadata["events"]), metadata[
            "policy"
        ]

    def _save(self, state: TrainingState) -> None:
        """Save the state, if this is the chief.

        Raises:
            RunError: A variable is NaN or infinite.
            StorageError: The state cannot be written.
        """
        if self._tensorboard is None:
            return
        arrays = checkpoints.variable_arrays(self._state_variables())
        broken = sorted(name for name, values in arrays.items() if not np.isfinite(values).all())
        if broken:
            raise self._non_finite_error(state, len(state.step_values), broken[:3])
        arrays["position/values"] = np.array(state.step_values, np.float32).reshape(
            -1, len(self._loop.value_names)
        )
        if state.hard_items is not None:
            arrays["position/mined"] = state.hard_items
        metadata = {
            "history": state.history,
            "events": self._tensorboard.flush(),
            "digest": self._task.key.digest,
            "policy": self._task.compute.policy,
        }
        self._checkpoints.save_state(self._global_step(state), arrays, metadata)

    def _fit(
        self, state: TrainingState, progress_bar: StageProgress, interruption: InterruptionHandler
    ) -> None:
        """Train the remaining epochs."""
        task = self._task
        last_save = time.monotonic()
        batches = None
        progress_bar.start(self._global_step(state))
        while state.epoch < self._config.epochs:
            if batches is None or self._config.hard_negatives:
                batches = self._iterate_batches(state)
            pending: list[tf.Tensor] = []
            must_stop = False
            while not must_stop and len(state.step_values) + len(pending) < self._steps:
                step = len(state.step_values) + len(pending) + 1  # from 1
                global_step = state.epoch * self._steps + step
                with monitoring.profiled_step(
                    task.folder / "logs", task.profiled_steps, global_step
                ):
                    pending.append(self._loop.step(batches))
                is_due = time.monotonic() - last_save > task.checkpoint_seconds
                must_stop = interruption.is_requested
                is_last = step == self._steps
                if is_due or must_stop or is_last or len(pending) >= STEPS_PER_FETCH:
                    self._collect(state, pending, progress_bar)
                    if (is_due or must_stop) and not is_last:
                        self._save(state)
                        last_save = time.monotonic()
            if len(state.step_values) == self._steps:
                self._end_epoch(state, progress_bar)
                last_save = time.monotonic()
                must_stop = interruption.is_requested
            if must_stop:
                self._log.info(
                    "interrupted; saved after %d epochs and %d steps; the same command resumes",
                    state.epoch,
                    len(state.step_values),
                )
                raise KeyboardInterrupt

    def _iterate_batches(self, state: TrainingState) -> Iterator[Any]:
        """Return the batches from the state on.

        Only of this epoch if its pairs depend on the weights.
        """
        if self._config.hard_negatives and state.hard_items is None:
            state.hard_items = self._batches.hard_items(self._predict, state.epoch)
        stream = self._batches.stream(
            state.epoch,
            len(state.step_values),
            hard_items=state.hard_items,
            share=self._loop.share,
        )
        return self._loop.iterate(stream)

    def _collect(
        self, state: TrainingState, pending: list[tf.Tensor], progress_bar: StageProgress
    ) -> None:
        """Fetch and check the values of the pending steps, and write them to TensorBoard."""
        first = self._global_step(state) + 1
        values = self._loop.fetch(pending)
        pending.clear()
        non_finite = loop.first_non_finite(values)
        if non_finite is not None:
            row, columns = non_finite
            names = [self._loop.value_names[column] for column in columns]
            raise self._non_finite_error(state, len(state.step_values) + row + 1, names)
        state.step_values.extend(values)
        rate = progress_bar.advance(self._named(values[-1].tolist()), len(values))
        if self._tensorboard:
            self._tensorboard.write_steps(
                [(first + row, self._named(step.tolist())) for row, step in enumerate(values)]
            )
            self._tensorboard.write_speed(first + len(values) - 1, rate)

    def _named(self, values: Sequence[float]) -> dict[str, float]:
        return dict(zip(self._loop.value_names, values, strict=True))

    def _end_epoch(self, state: TrainingState, progress_bar: StageProgress) -> None:
        """Validate; save the state, and the weights if they are the best so far."""
        epoch = state.epoch
        means = np.mean(np.array(state.step_values, np.float64), axis=0)
        logs = self._named(means.tolist())
        weights: dict[str, np.ndarray] = {}
        if self._tensorboard:
            weights, scores = self._validate(state, self._tensorboard, logs)
            logs |= scores
            watched = self._validation.watched
            progress_bar.set_validation(watched, logs[watched])
        # Sorted, as a state gives them back.
        state.history.append(dict(sorted(logs.items())))
        state.step_values, state.hard_items = [], None
        if self._is_chief:
            if monitoring.best_epoch(state.history, self._validation.watched) == epoch:
                self._checkpoints.save_best(epoch + 1, weights)
            self._save(state)

    def _validate(
        self, state: TrainingState, tensorboard: TensorBoardWriter, logs: dict[str, float]
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Return the weights that were validated, and their losses and scores."""
        with self._averaged_weights():
            scores, by_source = self._validation.scores(self._predict)
            weights = checkpoints.variable_arrays(self._model.weights)
        broken = sorted(name for name, value in scores.items() if not np.isfinite(value))
        if broken:
            raise self._non_finite_error(state, self._steps, broken)
        epoch = state.epoch + 1
        rate = float(keras.ops.convert_to_numpy(self._model.optimizer.learning_rate))
        tensorboard.write_epoch(epoch, logs | scores | {"learning_rate": rate})
        for source, score in by_source.items():
            confusion = np.array(score["confusion"])
            tensorboard.write_recall(epoch, source, score["emotions"], confusion)
        trained = {variable.path for variable in self._model.trainable_weights}
        kernels = sorted(path for path in trained if path.endswith("kernel"))
        tensorboard.write_histograms(epoch, {path: weights[path] for path in kernels})
        return weights, scores

    def _non_finite_error(self, state: TrainingState, step: int, names: Sequence[str]) -> RunError:
        place = f"epoch {state.epoch + 1}, step {step} of {self._steps}"
        return monitoring.non_finite_error(self._config, place, names, self._checkpoints)

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Give the model the moving average of its weights in the block, if the stage keeps one."""
        weights = self._model.learnt_weights if self._config.ema else []
        last_weights = checkpoints.variable_arrays(weights)
        if weights:
            self._model.optimizer.finalize_variable_values(weights)
        try:
            yield
        finally:
            checkpoints.assign_variables(weights, last_weights, path=self._task.folder)

    def _finish(self, state: TrainingState) -> StageResult:
        """Write the best weights and score them."""
        task = self._task
        best_epoch = monitoring.best_epoch(state.history, self._validation.watched) + 1
        checkpoints.save_arrays(
            task.folder / run_folder.WEIGHTS_FILE,
            self._checkpoints.load_best(best_epoch),
            {"stage": task.name, "digest": task.key.digest},
        )
        if self._tensorboard is None:
            raise RuntimeError("only the chief finishes a stage")
        return score_stage(
            task,
            state.history,
            best_epoch,
            pairs=self._scored_pairs,
            tensorboard=self._tensorboard,
        )


def learning_rate(
    config: StageConfig, n_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning-rate schedule of a stage.

    The rate rises over the first fraction `warmup` of the steps; then it falls to 0 like a cosine,
    or stays with the schedule `constant`. Step s of w warm-up steps has the fraction (1 + s (w - 1)
    / w) / w of the rate, so that the first step changes the weights, too.

    Args:
        config: Gives rate, schedule and warm-up.
        n_steps: The number of steps of all epochs.

    >>> from kerasemo.config.schema import StageConfig
    >>> config = StageConfig(
    ...     "a", "supervised", ("x/audio",), learning_rate=0.5, schedule="constant", warmup=0.2
    ... )
    >>> rate = learning_rate(config, 10)
    >>> [float(rate(step)) for step in (0, 1, 2, 9)]
    [0.25, 0.375, 0.5, 0.5]
    """
    rate = config.learning_rate
    n_warmup = min(round(config.warmup * n_steps), n_steps - 1)  # the last step has the full rate
    schedules = keras.optimizers.schedules
    if config.schedule == "constant":
        start = rate / max(1, n_warmup)
        return schedules.PolynomialDecay(start, max(1, n_warmup), end_learning_rate=rate)
    if not n_warmup:
        return schedules.CosineDecay(rate, n_steps)
    return schedules.CosineDecay(
        rate / n_warmup, n_steps - n_warmup, warmup_target=rate, warmup_steps=n_warmup
    )

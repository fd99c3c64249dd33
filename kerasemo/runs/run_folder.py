"""What a run folder holds: for each stage its key, and its result when it is finished.

`RUN/STAGE/` holds `stage.json` (the key: configuration, records, splits, parent; and versions),
`checkpoints/`, `logs/` for TensorBoard, `weights.safetensors` (of the best epoch),
`predictions.csv` and, written last, `metrics.json`.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras

from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.networks.inference import TrainedNetwork
from kerasemo.networks.network import build_network
from kerasemo.runs import checkpoints
from pipelines.core import files
from pipelines.core.errors import DataError

KEY_FILE = "stage.json"
RESULT_FILE = "metrics.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclasses.dataclass(frozen=True, eq=False)
class StageKey:
    """All that the result of a stage depends on."""

    stage: StageConfig
    network: NetworkConfig
    records: Mapping[str, str]
    """Source -> the hash of its manifest."""
    sides: Mapping[str, str]
    """Source -> the hash of its splits."""
    emotions: Mapping[str, Sequence[str]]
    """Source -> the emotions of its corpus."""
    protocol: str
    fold: int
    """The first fold in which the corpora of the chain are split like this."""
    seed: int
    parent: str
    """The digest of the key of the stage that the stage starts from; empty without one."""
    keep_copies: bool
    """Whether copies of test clips stay in the training split of a publisher."""

    def to_json(self) -> dict[str, Any]:
        """Return the key as the JSON document that `stage.json` holds."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the key in a JSON document.

        Raises:
            DataError: A setting is unknown to this version.
            KeyError, TypeError: An entry is missing or unknown.
        """
        configs = {
            "stage": StageConfig.from_json(document["stage"]),
            "network": NetworkConfig.from_json(document["network"]),
        }
        return cls(**{**document, **configs})

    @property
    def digest(self) -> str:
        """The SHA-256 of the key."""
        return files.json_sha256(self.to_json())

    @property
    def heads(self) -> tuple[str, ...]:
        """The source of each head of the network; empty for a single head."""
        return tuple(self.stage.sources) if self.stage.heads == "corpus" else ()


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedStage:
    """The result of a finished stage: the content of `metrics.json`."""

    folder: Path
    """`RUN/STAGE`."""
    key: StageKey
    experiment: str
    """The name of the experiment."""
    trained_emotions: Sequence[str]
    """The emotions that the network was trained on in the whole chain."""
    best_epoch: int
    """The epoch whose weights are kept, from 1."""
    history: Sequence[Mapping[str, float]]
    """The losses and scores of each epoch."""
    split_facts: Mapping[str, Any]
    """Source -> how it was split; see `GatedSplits.facts`."""
    scored_split: str
    """The split whose clips were scored: `test` or `validation`."""
    scores: Mapping[str, Mapping[str, Any]]
    """Source -> its score."""

    @property
    def config(self) -> StageConfig:
        """The settings of the stage."""
        return self.key.stage

    @property
    def name(self) -> str:
        """The name of the stage."""
        return self.key.stage.name

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The sources of the stage."""
        return tuple(self.key.stage.sources)

    def to_json(self) -> dict[str, Any]:
        """Return the content of `metrics.json`."""
        config = self.config
        return {
            "key": self.key.to_json(),
            "experiment": self.experiment,
            "stage": config.name,
            "kind": config.kind,
            "protocol": self.key.protocol,
            "fold": self.key.fold,
            "trained_on": list(config.sources),
            "trained_emotions": list(self.trained_emotions),
            "epochs": config.epochs,
            "best_epoch": self.best_epoch,
            "history": list(self.history),
            "split": self.split_facts,
            "scored": self.scored_split,
            "transductive": config.speaker_normalization,
            "sources": self.scores,
        }

    @classmethod
    def from_json(cls, folder: Path, document: Mapping[str, Any]) -> Self:
        """Return the result in the content of `metrics.json`.

        Raise what `StageKey.from_json` raises.
        """
        return cls(
            folder,
            StageKey.from_json(document["key"]),
            experiment=document.get("experiment", ""),
            trained_emotions=document["trained_emotions"],
            best_epoch=document["best_epoch"],
            history=document["history"],
            split_facts=document["split"],
            scored_split=document["scored"],
            scores=document["sources"],
        )

    def load_network(self) -> TrainedNetwork:
        """Return the network of the stage with its weights.

        Raises:
            CheckpointError: The weights are missing, damaged, or of another network.
        """
        path = self.folder / WEIGHTS_FILE
        heads = self.key.heads
        model = keras.Model(*build_network(self.key.network, heads=max(1, len(heads))))
        arrays, _ = checkpoints.load_arrays(path)
        checkpoints.assign_variables(model.weights, arrays, path=path)
        return TrainedNetwork(model, heads=heads, test_mirror=self.config.test_mirror)


def read_finished_stage(folder: Path) -> FinishedStage | None:
    """Return the result of the stage in a folder; None if the stage is not finished.

    Raises:
        DataError: `metrics.json` is damaged.
    """
    path = folder / RESULT_FILE
    try:
        return FinishedStage.from_json(folder, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: damaged ({error}); remove this file, and the same command scores the stage "
            "again"
        ) from error


def read_stored_key(folder: Path) -> dict[str, Any] | None:
    """Return the key in a stage's `stage.json` as JSON; None without the file.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / KEY_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))["key"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: damaged ({error}); remove the folder or name another --run"
        ) from error


def claim_folder(folder: Path, key: StageKey, facts: Mapping[str, Any]) -> None:
    """Write a stage's `stage.json`.

    Args:
        folder: `RUN/STAGE`.
        key: The key of the stage.
        facts: Further entries, such as the devices.

    Raises:
        FolderInUseError: Another command began a training with another key in the folder meanwhile.
    """
    stored = read_stored_key(folder)
    if stored is not None and stored != key.to_json():
        raise checkpoints.FolderInUseError(
            f"{folder}: another command began a training with other settings in this folder; "
            "name another --run"
        )
    document = {"key": key.to_json(), "digest": key.digest, "versions": package_versions(), **facts}
    with files.storage_errors(folder):
        files.write_json(folder / KEY_FILE, document)


def folder_name(stage: str, digest: str) -> str:
    """Return the name of a stage's folder if folders are found by key.

    >>> folder_name("transfer", "0123456789abcdef")
    'transfer-0123456789ab'
    """
    return f"{stage}-{digest[:12]}"


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    names = ("kerasemo", "tensorflow", "keras", "numpy", "opencv-python-headless", "librosa", "av")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def key_differences(stored: Any, requested: Any, name: str = "") -> Iterator[str]:
    """Yield every entry in which two JSON documents differ; of a hash, what the hash stands for.

    >>> list(key_differences({"fold": 0, "seed": 1}, {"fold": 2, "seed": 1}))
    ['fold: 0 in the folder, 2 requested']
    """
    if isinstance(stored, dict) and isinstance(requested, dict):
        for key in sorted(stored.keys() | requested.keys()):
            path = f"{name}.{key}" if name else key
            yield from key_differences(stored.get(key), requested.get(key), path)
    elif stored != requested:
        kind, _, source = name.partition(".")
        meanings = {
            "records": f"other records of {source}",
            "sides": f"another split of {source}",
            "parent": "the stage that it starts from",
        }
        yield meanings.get(kind, f"{name}: {stored!r} in the folder, {requested!r} requested")

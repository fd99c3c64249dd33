"""Files of weights and of training states, and the folder that holds them."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
from keras import ops

from kerasemo.config.schema import NetworkConfig
from kerasemo.networks.network import build_network
from kerasemo.runs.checkpoints import (
    HEADER_ENTRY,
    CheckpointError,
    CheckpointFolder,
    assign_variables,
    load_arrays,
    save_arrays,
    training_lock,
    variable_arrays,
)
from pipelines.core.errors import RunError, StorageError
from pipelines.core.spec import Spec

REMEDY = "remove its folder and train"
METADATA = {"history": [{"loss": 0.1}]}


def trained_variables(*, widths: tuple[int, ...] = (8,), seed: int = 1) -> list[keras.Variable]:
    """Return the variables of a network and its optimiser after three steps with random gradients.

    So every variable of AdamW has a value that is not the initial one.
    """
    keras.utils.set_random_seed(seed)
    config = NetworkConfig(widths=widths, convolutions=1, groups=4, embedding=8)
    model = keras.Model(*build_network(config, spec=Spec(face_size=16)))
    learning_rate = keras.optimizers.schedules.CosineDecay(1e-3, 10)
    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=1e-2, name="optimizer")
    optimizer.build(model.trainable_weights)
    random = np.random.default_rng(seed)
    for _ in range(3):
        gradients = [
            ops.convert_to_tensor(random.normal(size=weight.shape), "float32")
            for weight in model.trainable_weights
        ]
        optimizer.apply(gradients, model.trainable_weights)
    return [*model.weights, *optimizer.variables]


def copied_values(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    return {variable.path: ops.convert_to_numpy(variable).copy() for variable in variables}


@pytest.fixture(scope="module")
def variables() -> list[keras.Variable]:
    """Return the variables of a training; tests must not change them."""
    return trained_variables()


@pytest.fixture(scope="module")
def saved_path(tmp_path_factory, variables) -> Path:
    """Return the file of the variables; tests must not change it."""
    path = tmp_path_factory.mktemp("training") / "last.safetensors"
    save_arrays(path, variable_arrays(variables), METADATA)
    return path


@pytest.fixture
def path(saved_path, tmp_path) -> Path:
    """Return a copy of the file that a test may change, alone in its folder."""
    return shutil.copy(saved_path, tmp_path / saved_path.name)


def test_state_of_a_training_is_restored_bit_for_bit(path, variables):
    """Weights, moments and the number of steps, into the variables of another training."""
    restored_variables = trained_variables(seed=2)
    arrays, metadata = load_arrays(path)
    assert metadata == METADATA
    assign_variables(restored_variables, arrays, path=path)
    expected, restored = copied_values(variables), copied_values(restored_variables)
    assert restored.keys() == expected.keys()
    assert len(expected) == len(variables)
    for name in expected:
        assert restored[name].dtype == expected[name].dtype, name
        assert restored[name].tobytes() == expected[name].tobytes(), name
    assert restored["optimizer/iteration"] == 3
    assert sum("velocity" in name for name in restored) > 5


def test_equal_states_make_equal_files(path, variables, tmp_path):
    """An interrupted training ends with the bytes of an uninterrupted one.

    Repeated, because the order of entries in a header may change from call to call.
    """
    again_path = tmp_path / "again"
    for ordered in (variables, variables[::-1]) * 8:
        save_arrays(again_path, variable_arrays(ordered), METADATA)
        assert again_path.read_bytes() == path.read_bytes()


def test_other_metadata_make_another_file(path, variables, tmp_path):
    other_path = tmp_path / "other"
    save_arrays(other_path, variable_arrays(variables), {"history": [{"loss": 0.2}]})
    assert other_path.read_bytes() != path.read_bytes()


def test_checkpoint_is_a_plain_safetensors_file(path, variables):
    arrays = safetensors.numpy.load_file(path)
    assert arrays.keys() == copied_values(variables).keys()
    np.testing.assert_array_equal(arrays["head/kernel"], copied_values(variables)["head/kernel"])


@pytest.mark.parametrize("place", ["length", "names", "metadata", "first value", "last byte"])
def test_flipped_bit_is_found_in_every_part_of_the_file(path, place):
    body = bytearray(path.read_bytes())
    header_bytes = int.from_bytes(body[:8], "little")
    position = {
        "length": 2,
        "names": body.index(b"head/kernel"),
        "metadata": body.index(b"loss"),
        "first value": 8 + header_bytes,
        "last byte": -1,
    }[place]
    body[position] ^= 1
    path.write_bytes(body)
    with pytest.raises(CheckpointError, match=rf"last\.safetensors: damaged.*{REMEDY}") as refused:
        load_arrays(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("n_bytes", [0, 4, 100, -1])
def test_truncated_file_is_refused(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(CheckpointError, match=rf"last\.safetensors: damaged.*{REMEDY}"):
        load_arrays(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=rf"last\.safetensors: no such file.*{REMEDY}"):
        load_arrays(tmp_path / "last.safetensors")


@pytest.mark.parametrize(
    "metadata",
    [None, {"other": "1"}, {HEADER_ENTRY: ""}, {HEADER_ENTRY: "0" * 64 + " {}"}],
    ids=["no metadata", "other metadata", "no checksum", "checksum of another file"],
)
def test_file_of_another_program_is_refused(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"head/kernel": np.zeros(3, np.float32)}, path, metadata)
    with pytest.raises(CheckpointError, match=r"other\.safetensors: damaged"):
        load_arrays(path)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((16,), r"stage1_conv1/kernel has shape .*8\), expected .*16\)"),
        ((8, 8), "no stage2_conv1/kernel"),
    ],
    ids=["shape", "missing"],
)
def test_state_of_another_network_is_refused(path, widths, message):
    arrays, _ = load_arrays(path)
    other_variables = trained_variables(widths=widths)
    with pytest.raises(CheckpointError, match=rf"{path}: {message}.* another network"):
        assign_variables(other_variables, arrays, path=path)


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_failed_save_leaves_the_former_file_whole(path, variables, monkeypatch, function):
    """The next save works although the failed save may leave a temporary file."""
    former_body = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(
            StorageError, match=r"last\.safetensors: No space left.* MiB .*former checkpoint"
        ):
            save_arrays(path, variable_arrays(variables), {"history": []})
    assert path.read_bytes() == former_body
    save_arrays(path, variable_arrays(variables), {"history": []})
    assert load_arrays(path)[1] == {"history": []}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_file_is_on_the_disk_before_it_is_renamed(path, variables, monkeypatch):
    calls, replace = [], os.replace

    def record_replace(source, target):
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync"))
    monkeypatch.setattr(os, "replace", record_replace)
    save_arrays(path, variable_arrays(variables), {})
    assert calls == ["fsync", "replace"]


def test_two_variables_with_one_path_are_refused():
    twins = [keras.Variable(np.zeros(2), name="twin") for _ in range(2)]
    with pytest.raises(ValueError, match=r"paths .*unique; received .*twin.*twin"):
        variable_arrays(twins)


# The folder of a training.


def arrays_of(value: float) -> dict[str, np.ndarray]:
    return {"a": np.full(3, value, np.float32)}


@pytest.fixture
def checkpoints(tmp_path) -> CheckpointFolder:
    """Return a folder after states of steps 2 to 100 and best weights of epochs 1 to 12."""
    folder = CheckpointFolder(tmp_path)
    for step in (2, 9, 10, 100):
        folder.save_state(step, arrays_of(step), {"step": step})
    for epoch in (1, 2, 3, 4, 12):
        folder.save_best(epoch, arrays_of(epoch))
    return folder


def steps_of(checkpoints: CheckpointFolder) -> list[int]:
    return [load_arrays(path)[1]["step"] for path in checkpoints.state_paths()]


def test_folder_has_the_last_states_and_the_last_best_weights(checkpoints):
    assert steps_of(checkpoints) == [100, 10, 9]
    assert [checkpoints.load_best(epoch)["a"][0] for epoch in (2, 3, 4, 12)] == [2, 3, 4, 12]
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoints.load_best(1)


def test_later_states_are_removed_when_a_training_resumes(checkpoints):
    """Best weights of a repeated epoch would otherwise make the needed weights the oldest."""
    checkpoints.remove_after(10, 3)
    assert steps_of(checkpoints) == [10, 9]
    for epoch in (4, 12):
        with pytest.raises(CheckpointError, match="no such file"):
            checkpoints.load_best(epoch)
    checkpoints.save_best(4, arrays_of(4))
    assert checkpoints.load_best(3)["a"][0] == 3


def test_one_training_at_a_time_uses_a_folder(tmp_path):
    with (
        training_lock(tmp_path),
        pytest.raises(RunError, match="another training .*wait .*--run"),
        training_lock(tmp_path),
    ):
        pytest.fail("two trainings have the folder")
    with training_lock(tmp_path):
        assert (tmp_path / ".lock").exists()

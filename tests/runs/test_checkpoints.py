import os
import shutil

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

REMEDY = "remove its folder and train the stage again"


def a_training(*, widths=(8,), seed=1):
    """A network and its optimiser after three steps on noise: every slot of AdamW holds something."""
    keras.utils.set_random_seed(seed)
    model = keras.Model(
        *build_network(
            NetworkConfig(widths=widths, convolutions=1, groups=4, embedding=8),
            spec=Spec(face_size=16),
        )
    )
    rate = keras.optimizers.schedules.CosineDecay(1e-3, 10)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-2, name="optimizer")
    optimizer.build(model.trainable_weights)
    random = np.random.default_rng(seed)
    for _ in range(3):
        gradients = [
            ops.convert_to_tensor(random.normal(size=weight.shape), "float32")
            for weight in model.trainable_weights
        ]
        optimizer.apply(gradients, model.trainable_weights)
    return [*model.weights, *optimizer.variables]


def values(variables):
    return {variable.path: ops.convert_to_numpy(variable).copy() for variable in variables}


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """The file of a training, and its variables; not to be changed."""
    variables = a_training()
    path = tmp_path_factory.mktemp("training") / "last.safetensors"
    save_arrays(path, variable_arrays(variables), {"history": [{"loss": 0.1}]})
    return path, variables


@pytest.fixture
def saved(training, tmp_path):
    """A copy of the file, to be changed, and the variables."""
    path, variables = training
    return shutil.copy(path, tmp_path / path.name), variables


def test_the_state_of_a_training_comes_back_bit_for_bit(saved):
    """Weights, moments and the scalar count of steps, into a training that stands elsewhere."""
    path, variables = saved
    other = a_training(seed=2)
    assert any(not np.array_equal(a, b) for a, b in zip(variables, other, strict=True))
    tensors, metadata = load_arrays(path)
    assert metadata == {"history": [{"loss": 0.1}]}
    for variable in other:
        variable.assign(ops.zeros_like(variable))
    assign_variables(other, tensors, path=path)
    expected, found = values(variables), values(other)
    assert expected.keys() == found.keys() and len(expected) == len(variables)
    for name in expected:
        assert (
            found[name].dtype == expected[name].dtype
            and found[name].tobytes() == expected[name].tobytes()
        ), name
    assert found["optimizer/iteration"] == 3 and sum("velocity" in name for name in found) > 5


def test_equal_states_make_equal_files(saved, tmp_path):
    """Each time: an interrupted training ends with the same bytes as one that was not."""
    path, variables = saved
    for order in (variables, variables[::-1]) * 8:
        save_arrays(tmp_path / "again", variable_arrays(order), {"history": [{"loss": 0.1}]})
        assert (tmp_path / "again").read_bytes() == path.read_bytes()
    save_arrays(tmp_path / "other", variable_arrays(variables), {"history": [{"loss": 0.2}]})
    assert (tmp_path / "other").read_bytes() != path.read_bytes()


def test_a_checkpoint_is_a_plain_safetensors_file(saved):
    path, variables = saved
    tensors = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(
        tensors["head/kernel"],
        next(ops.convert_to_numpy(v) for v in variables if v.path == "head/kernel"),
    )


@pytest.mark.parametrize("place", ["length", "names", "metadata", "first value", "last byte"])
def test_a_flipped_bit_is_found_wherever_it_is(saved, place):
    path, _ = saved
    body = bytearray(path.read_bytes())
    header = int.from_bytes(body[:8], "little")
    where = {
        "length": 2,
        "names": body.index(b"head/kernel"),
        "metadata": body.index(b"loss"),
        "first value": 8 + header,
        "last byte": -1,
    }
    body[where[place]] ^= 1
    path.write_bytes(body)
    with pytest.raises(CheckpointError, match=rf"last.safetensors: damaged.*; {REMEDY}") as caught:
        load_arrays(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(saved, kept):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=rf"last.safetensors: damaged.*; {REMEDY}"):
        load_arrays(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=rf"last.safetensors: no such file; {REMEDY}"):
        load_arrays(tmp_path / "last.safetensors")


def test_what_another_program_wrote_is_refused(tmp_path):
    """A safetensors file without the checksum, and one whose checksum was copied from elsewhere."""
    path = tmp_path / "other.safetensors"
    for metadata in (
        None,
        {"other": "1"},
        {HEADER_ENTRY: ""},
        {HEADER_ENTRY: "0" * 64 + " {}"},
    ):
        safetensors.numpy.save_file({"head/kernel": np.zeros(3, np.float32)}, path, metadata)
        with pytest.raises(CheckpointError, match="other.safetensors: damaged"):
            load_arrays(path)


def test_the_state_of_another_network_is_refused(saved):
    path, _ = saved
    tensors, _ = load_arrays(path)
    with pytest.raises(
        CheckpointError,
        match=rf"{path}: stage1_conv1/kernel has shape .*8\), expected .*16\).* another network",
    ):
        assign_variables(a_training(widths=(16,)), tensors, path=path)
    with pytest.raises(CheckpointError, match=rf"{path}: no stage2_conv1/kernel.* another network"):
        assign_variables(a_training(widths=(8, 8)), tensors, path=path)


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_an_interrupted_save_leaves_the_file_of_before_whole(saved, monkeypatch, failing):
    path, variables = saved
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(
            StorageError,
            match="last.safetensors: No space left on device; .* MiB .* former checkpoint is whole",
        ):
            save_arrays(path, variable_arrays(variables), {"history": []})
    assert path.read_bytes() == before
    save_arrays(
        path, variable_arrays(variables), {"history": []}
    )  # and what was left behind does not stand in the way
    assert load_arrays(path)[1] == {"history": []}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_file_is_on_the_disk_before_it_takes_its_name(saved, monkeypatch):
    path, variables = saved
    calls = []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("fsync"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    save_arrays(path, variable_arrays(variables), {})
    assert calls == ["fsync", "replace"]


def test_two_variables_of_one_path_are_refused():
    variables = [keras.Variable(np.zeros(2), name="twice") for _ in range(2)]
    with pytest.raises(
        ValueError, match="paths of variables must be unique; received .*twice.*twice"
    ):
        variable_arrays(variables)


# The states of a training.


def tensors(value: float) -> dict[str, np.ndarray]:
    return {"a": np.full(3, value, np.float32)}


@pytest.fixture
def checkpoints(tmp_path):
    kept = CheckpointFolder(tmp_path)
    for step in (2, 9, 10, 100):
        kept.save_state(step, tensors(step), {"step": step})
    for epoch in (1, 2, 3, 4, 12):
        kept.save_best(epoch, tensors(epoch))
    return kept


def test_the_last_states_and_the_last_best_weights_are_kept(checkpoints):
    assert [load_arrays(path)[1]["step"] for path in checkpoints.state_paths()] == [100, 10, 9]
    assert [checkpoints.load_best(epoch)["a"][0] for epoch in (2, 3, 4, 12)] == [2, 3, 4, 12]
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoints.load_best(1)


def test_what_comes_after_the_state_that_is_taken_is_forgotten(checkpoints):
    """Else the best weights of an epoch that is trained again would push out those that are needed."""
    checkpoints.remove_after(10, 3)
    assert [load_arrays(path)[1]["step"] for path in checkpoints.state_paths()] == [10, 9]
    assert checkpoints.load_best(3)["a"][0] == 3
    with pytest.raises(CheckpointError):
        checkpoints.load_best(12)
    checkpoints.save_best(4, tensors(4))
    assert checkpoints.load_best(3)["a"][0] == 3


def test_one_training_at_a_time_has_a_folder(tmp_path):
    with (
        training_lock(tmp_path),
        pytest.raises(
            RunError,
            match="another training .*; wait for it, or name another --run",
        ),
        training_lock(tmp_path),
    ):
        pass
    with training_lock(tmp_path):
        pass

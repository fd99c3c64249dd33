"""The random changes in the pipeline of a training, and in an experiment."""

import numpy as np
import pytest

from helpers.sources import random_source, whole
from kerasemo.config import loading
from kerasemo.config.schema import DEFAULT_AUGMENT, AugmentConfig
from kerasemo.datasets import batches, sampling
from kerasemo.training import augmentation
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError


def test_batches_are_changed_in_training_and_the_source_is_not():
    source = random_source("a/visual", ("anger", "fear") * 12, items=(2,))
    inputs_before = source.inputs.copy()
    sampler = sampling.item_sampler(whole(source), batch=8, seed=0)
    domains = {DOMAINS.index("visual")}
    augment = augmentation.augmentation(DEFAULT_AUGMENT, domains=domains)
    plain, changed, again = (
        list(batches.BatchStream([source], sampler, epochs=2, augment=function))
        for function in (None, augment, augment)
    )
    resumed = list(batches.BatchStream([source], sampler, first_epoch=1, epochs=1, augment=augment))
    for batch, same_batch in zip(changed, again, strict=True):
        np.testing.assert_array_equal(batch["image"], same_batch["image"])
    for batch, same_batch in zip(changed[6:], resumed, strict=True):
        np.testing.assert_array_equal(batch["image"], same_batch["image"])
    for before, after in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(
            after["image"],
            augmentation.augment_batch(before, strengths=DEFAULT_AUGMENT, domains=domains)["image"],
        )
        assert (before["image"].numpy() != after["image"].numpy()).mean() > 0.3
    np.testing.assert_array_equal(source.inputs, inputs_before)


STAGE = '[[stages]]\nname = "first"\nkind = "supervised"\nsources = ["a/visual"]\n'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", AugmentConfig()),
        ("augment = false", AugmentConfig()),
        ("augment = true", DEFAULT_AUGMENT),
        ("augment = {flip = 0.5, gain_db = 3}", AugmentConfig(flip=0.5, gain_db=3.0)),
        ("[stages.augment]\nshift = 0.1", AugmentConfig(shift=0.1)),
    ],
)
def test_augment_of_a_stage_is_parsed(tmp_path, value, expected):
    (tmp_path / "mine.toml").write_text(STAGE + value)
    assert loading.load_experiment(str(tmp_path / "mine.toml")).stage("first").augment == expected


def test_augment_is_parsed_from_a_setting():
    def read(value):
        return loading.load_experiment("sample", [f"joint.augment={value}"]).stage("joint").augment

    assert (
        read("true") == DEFAULT_AUGMENT
        and read("{flip = 0.5}") == AugmentConfig(flip=0.5)
        and read("false") == AugmentConfig()
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1", "stage 'joint': augment.*true, false.*table.*received 1"),
        ("yes", "augment.*true, false.*table.*received 'yes'"),
        ("{flipp = 0.5}", "augment: unknown key 'flipp'; expected flip, shift, .*gain_db"),
        ("{flip = '0.5'}", "augment: flip.*number.*received '0.5'"),
        ("{flip = 1.5}", "augment: flip.*number.*0.*1; received 1.5"),
        ("{scale = 1}", "augment: scale.*number.*0.*0.9; received 1"),
        ("{speed = 0.6}", "augment: speed.*number.*0.*0.5; received 0.6"),
        ("{noise = 1.5}", "augment: noise.*number.*0.*1; received 1.5"),
        ("{time_masks = 0}", "augment: time_masks.*whole number.*1.*8; received 0"),
        ("{frequency_masks = 2.0}", "augment: frequency_masks.*whole.*received 2.0"),
        ("{variants = 9}", "augment: variants.*whole number.*1.*8; received 9"),
        ("{gain_db = -1}", "augment: gain_db.*number.*0.*100; received -1"),
    ],
)
def test_wrong_strengths_are_refused(value, message):
    with pytest.raises(InputError, match=message):
        loading.load_experiment("sample", [f"joint.augment={value}"])

"""Augmentation in the batches of a training, and its settings in an experiment file."""

import numpy as np
import pytest

from helpers.messages import key_words
from helpers.sources import random_source, whole
from kerasemo.config import loading
from kerasemo.config.schema import DEFAULT_AUGMENT, AugmentConfig
from kerasemo.datasets import batches, sampling
from kerasemo.training import augmentation
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError


def test_training_batches_are_augmented_and_the_source_keeps_its_inputs():
    source = random_source("a/visual", ("anger", "fear") * 12, items=(2,))
    initial_inputs = source.inputs.copy()
    sampler = sampling.item_sampler(whole(source), batch=8, seed=0)
    domains = {DOMAINS.index("visual")}
    augment = augmentation.augmentation(DEFAULT_AUGMENT, domains=domains)
    plain, augmented, repeated = (
        list(batches.BatchStream([source], sampler, epochs=2, augment=function))
        for function in (None, augment, augment)
    )
    resumed = list(batches.BatchStream([source], sampler, first_epoch=1, epochs=1, augment=augment))
    for batch, repeated_batch in zip(augmented, repeated, strict=True):
        np.testing.assert_array_equal(batch["image"], repeated_batch["image"])
    for batch, resumed_batch in zip(augmented[6:], resumed, strict=True):
        np.testing.assert_array_equal(batch["image"], resumed_batch["image"])
    for plain_batch, batch in zip(plain, augmented, strict=True):
        expected = augmentation.augment_batch(
            plain_batch, strengths=DEFAULT_AUGMENT, domains=domains
        )
        np.testing.assert_array_equal(batch["image"], expected["image"])
        assert (plain_batch["image"].numpy() != batch["image"].numpy()).mean() > 0.3
    np.testing.assert_array_equal(source.inputs, initial_inputs)


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
def test_augment_of_a_stage_is_false_true_or_a_table(tmp_path, value, expected):
    (tmp_path / "mine.toml").write_text(STAGE + value)
    assert loading.load_experiment(str(tmp_path / "mine.toml")).stage("first").augment == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("true", DEFAULT_AUGMENT),
        ("{flip = 0.5}", AugmentConfig(flip=0.5)),
        ("false", AugmentConfig()),
    ],
)
def test_setting_replaces_augment_of_a_stage(value, expected):
    experiment = loading.load_experiment("sample", [f"joint.augment={value}"])
    assert experiment.stage("joint").augment == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("1", ("stage 'joint'", "true", "false", "table", "received 1")),
        ("yes", ("true", "false", "table", "'yes'")),
        ("{flipp = 0.5}", ("'flipp'", "flip,", "shift", "gain_db")),
        ("{flip = '0.5'}", ("flip", "number", "'0.5'")),
        ("{flip = 1.5}", ("flip", "0 to 1", "1.5")),
        ("{scale = 1}", ("scale", "0 to 0.9", "received 1")),
        ("{speed = 0.6}", ("speed", "0 to 0.5", "0.6")),
        ("{noise = 1.5}", ("noise", "0 to 1", "1.5")),
        ("{time_masks = 0}", ("time_masks", "1 to 8", "received 0")),
        ("{frequency_masks = 2.0}", ("frequency_masks", "whole", "2.0")),
        ("{variants = 9}", ("variants", "1 to 8", "received 9")),
        ("{gain_db = -1}", ("gain_db", "0 to 100", "-1")),
    ],
)
def test_invalid_strength_is_refused(value, words):
    with pytest.raises(InputError, match=key_words("augment", *words)):
        loading.load_experiment("sample", [f"joint.augment={value}"])

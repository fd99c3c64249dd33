"""The steps of `many_training.py`: AdamW on many networks at once, and their answers. Not a benchmark itself."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import many_network
from many_batches import Recipe, draw, dropout
from many_network import Weights
from many_sounds import Lane, Sounds, segments_of

from kerasemo.settings import Network

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-7
"""Of the moments of AdamW, as Keras has them."""
NEVER = -1e9
"""The logit of an emotion that the corpus has not."""
AT_ONCE = 64
"""Segments of each network that are answered at once."""


class State(NamedTuple):
    """What a training changes of one network; of many, with a leading axis."""

    weights: Weights
    first_moments: Weights
    second_moments: Weights
    average: Weights
    """The moving average of the weights."""


def initial_state(lane: Lane, config: Network) -> State:
    """Return what the training of one network starts from."""
    weights = many_network.initial_weights(jax.random.split(lane.key)[0], config)
    nothing = jax.tree.map(jnp.zeros_like, weights)
    return State(weights, nothing, jax.tree.map(jnp.copy, nothing), jax.tree.map(jnp.copy, weights))


def learning_rate(step: jax.Array, recipe: Recipe) -> jax.Array:
    """Return the rate of a step, from 0: it rises evenly, then falls to nothing along a cosine."""
    done = step / recipe.steps
    rising = jnp.minimum((step + 1) / max(recipe.warmup * recipe.steps, 1), 1)
    falling = jnp.clip((done - recipe.warmup) / (1 - recipe.warmup), 0, 1)
    return recipe.learning_rate * rising * (1 + jnp.cos(jnp.pi * falling)) / 2


def one_step(step: jax.Array, state: State, lane: Lane, sounds: Sounds, recipe: Recipe, config: Network, dtype: str) -> tuple:
    """Return the state of one network after a step of AdamW, and the loss."""
    batch_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.split(lane.key)[1], step))
    images, targets = draw(batch_key, lane, sounds, recipe)
    kept = dropout(dropout_key, recipe, config)

    def loss(weights: Weights) -> jax.Array:
        answers = many_network.logits(weights, images, config, kept=kept, dtype=dtype)
        return -(targets * masked_log_softmax(answers, lane.mask)).sum(axis=-1).mean()

    value, gradients = jax.value_and_grad(loss)(state.weights)
    rate, number = learning_rate(step, recipe), step + 1.0
    first_share, second_share = 1 - FIRST_DECAY**number, 1 - SECOND_DECAY**number
    kept_share = jnp.minimum(recipe.ema, number / (10 + number)) if recipe.ema else 0.0  # the first weights are soon forgotten

    def first_moment(moment, gradient):
        return FIRST_DECAY * moment + (1 - FIRST_DECAY) * gradient

    def second_moment(moment, gradient):
        return SECOND_DECAY * moment + (1 - SECOND_DECAY) * jnp.square(gradient)

    def updated(weight, first, second):
        direction = first / first_share / (jnp.sqrt(second / second_share) + EPSILON)
        return weight - rate * (direction + recipe.weight_decay * weight)

    first = jax.tree.map(first_moment, state.first_moments, gradients)
    second = jax.tree.map(second_moment, state.second_moments, gradients)
    weights = jax.tree.map(updated, state.weights, first, second)
    average = jax.tree.map(lambda before, now: kept_share * before + (1 - kept_share) * now, state.average, weights)
    return State(weights, first, second, average), value


def masked_log_softmax(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """Return log probabilities, float32 [batch, 10], among the emotions of a mask [10]."""
    return jax.nn.log_softmax(jnp.where(mask > 0, logits, NEVER))


@functools.partial(jax.jit, static_argnames=("count", "recipe", "config", "dtype"), donate_argnames=("state",))
def trained(
    state: State, lanes: Lane, sounds: Sounds, *, first: int, count: int, recipe: Recipe, config: Network, dtype: str
) -> tuple[State, jax.Array]:
    """Return the state of all networks after so many more steps, and each one's mean loss in them.

    Args:
        state: Of all networks.
        lanes: What is each network's own.
        sounds: What all draw from.
        first: How many steps were taken before.
        count: How many are taken.
        recipe: How they are trained.
        config: The networks' shape.
        dtype: What the convolutions compute in.
    """

    def step(number, carried):
        state, total = carried
        state, losses = jax.vmap(lambda state, lane: one_step(number, state, lane, sounds, recipe, config, dtype))(state, lanes)
        return state, total + losses

    state, total = jax.lax.fori_loop(first, first + count, step, (state, jnp.zeros(len(lanes.count))))
    return state, total / count


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def probabilities(weights: Weights, lanes: Lane, sounds: Sounds, segments: jax.Array, *, config: Network, dtype: str) -> jax.Array:
    """Return what all networks say of segments of their own, float32 [lanes, segments, 10].

    Args:
        weights: Of all networks.
        lanes: What is each network's own.
        sounds: What all draw from.
        segments: int32 [lanes, segments], a multiple of AT_ONCE.
        config: The networks' shape.
        dtype: What the convolutions compute in.
    """

    def of_one(weights: Weights, lane: Lane, part: jax.Array) -> jax.Array:
        images = (segments_of(sounds, part) - lane.mean) / lane.scale
        return jnp.exp(masked_log_softmax(many_network.logits(weights, images, config, dtype=dtype), lane.mask))

    parts = jnp.moveaxis(segments.reshape(len(segments), -1, AT_ONCE), 1, 0)  # [parts, lanes, 64]
    answered = jax.lax.map(lambda part: jax.vmap(of_one)(weights, lanes, part), parts)  # [parts, lanes, 64, 10]
    return jnp.moveaxis(answered, 0, 1).reshape(*segments.shape, -1)

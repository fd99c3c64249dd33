"""Time a training step of the default network against the same step in PyTorch.

    python benchmarks/training_step.py [--precision bfloat16] [--steps 3] [--rounds 5]

Network, loss and optimiser are the same. A step: uint8 faces to loss, gradients and AdamW, batches
of 64. With the same weights both networks must first give the same logits within 1e-4. PyTorch
runs in another process, which waits while kerasemo is timed: eager and compiled, channels first
and last.
"""

import argparse
import functools
import importlib
import importlib.util
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable

import timing

BATCH = 64
N_EMOTIONS = 10
TORCH_WAYS = [
    f"PyTorch {how}, channels {where}"
    for how in ("eager", "compiled")
    for where in ("first", "last")
]


def torch_network(weights: dict):
    """Return a function that creates the network in PyTorch with these weights.

    Keras pads stride 2 at the end, PyTorch at the beginning. On the mirrored image with mirrored
    kernels both agree.

    Args:
        weights: Path of each variable of the Keras model -> its value.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    mean, scale = (
        tensors[f"normalization/{name}"][0].permute(2, 0, 1).flip(1, 2)
        for name in ("mean", "scale")
    )
    convolution_names = [
        name.removesuffix("/kernel")
        for name in weights
        if "_conv" in name and name.endswith("/kernel")
    ]

    class TorchNetwork(nn.Module):
        def __init__(self):
            super().__init__()
            layers = []
            for name in convolution_names:
                kernel = tensors[f"{name}/kernel"].permute(3, 2, 0, 1).flip(2, 3)
                width, channels = kernel.shape[:2]
                stride = 2 if name.endswith("conv1") else 1
                convolution = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
                convolution.weight.data = kernel.contiguous()
                layers += [convolution, nn.GroupNorm(8, width), nn.LeakyReLU(0.01)]
            self.body = nn.Sequential(*layers)
            self.features, self.head = nn.Linear(width, 256), nn.Linear(256, N_EMOTIONS)
            for layer, name in ((self.features, "features"), (self.head, "head")):
                layer.weight.data = tensors[f"{name}/kernel"].T.contiguous()
                layer.bias.data = tensors[f"{name}/bias"]

        def forward(self, image):
            body = self.body((image.float() - mean) / scale)
            features = self.features(body.mean((2, 3)))
            return self.head(functional.dropout(features, 0.3, self.training))

    return TorchNetwork


def torch_steps(weights: dict, batch: dict, bfloat16: bool) -> tuple:
    """Return the logits of the untrained network, and a function of one step for each way.

    Args:
        weights: See `torch_network`.
        batch: A batch of the Keras model, as arrays.
        bfloat16: Whether the forward pass is in bfloat16.
    """
    import torch
    from torch.nn import functional

    torch.set_num_threads(2)
    create_network = torch_network(weights)
    images = torch.tensor(batch["image"]).permute(0, 3, 1, 2).flip(2, 3).contiguous()
    mask, labels = torch.tensor(batch["mask"]) == 0, torch.tensor(batch["label"]).long()

    def step_function(is_compiled: bool, memory_format: torch.memory_format):
        network = create_network().to(memory_format=memory_format)
        inputs = images.to(memory_format=memory_format)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-4, fused=True)
        forward = torch.compile(network) if is_compiled else network

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = forward(inputs)
            functional.cross_entropy(logits.float().masked_fill(mask, -1e9), labels).backward()
            optimizer.step()

        return step

    logits = create_network().eval()(images).detach().numpy()
    steps = [
        step_function(is_compiled, memory_format)
        for is_compiled in (False, True)
        for memory_format in (torch.contiguous_format, torch.channels_last)
    ]
    return logits, dict(zip(TORCH_WAYS, steps, strict=True))


def serve() -> None:
    """Run the process of PyTorch: send the logits, then make steps for every line `NAME COUNT`."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not be among the replies

    def reply(value) -> None:
        pickle.dump(value, replies)
        replies.flush()

    logits, steps = torch_steps(*pickle.load(requests))
    reply(logits)
    for line in iter(requests.readline, b""):
        name, count = line.decode().rsplit(maxsplit=1)
        for _ in range(int(count)):
            steps[name]()
        # Until the threads of PyTorch no longer spin: three in a thousand of its time.
        time.sleep(0.01)
        reply(name)


def kerasemo_step(precision: str, jit_compile: bool, batch: dict) -> tuple:
    """Return a model, and a function that makes one step."""
    import keras
    import tensorflow as tf

    from kerasemo.config.schema import NetworkConfig, StageConfig
    from kerasemo.training.stage_models import build_stage_model

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    config = StageConfig("benchmark", "supervised", ("faces/visual",))
    model = build_stage_model(config, NetworkConfig())
    model.get_layer("normalization").fit("visual", batch["image"])
    model.compile(optimizer=keras.optimizers.AdamW(1e-3, weight_decay=1e-4))
    model.optimizer.build(model.learnt_weights)
    step = tf.function(model.step, jit_compile=jit_compile)
    tensors = {name: tf.constant(value) for name, value in batch.items()}
    return model, lambda: float(step(tensors)["loss"])


def torch_functions(
    model, batch: dict, bfloat16: bool, steps: int
) -> dict[str, Callable[[], None]]:
    """Start the process of PyTorch, compare its logits, and return a function for each way.

    Args:
        model: The Keras model, whose weights PyTorch gets.
        batch: The batch.
        bfloat16: Whether PyTorch computes in bfloat16.
        steps: Steps in a call of a function.
    """
    from keras import ops

    worker = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    weights = {weight.path: ops.convert_to_numpy(weight) for weight in model.weights}
    pickle.dump((weights, batch, bfloat16), worker.stdin)
    worker.stdin.flush()
    torch_logits = pickle.load(worker.stdout)
    inputs = {name: batch[name] for name in ("domain", "seed")}
    logits = ops.convert_to_numpy(
        model({"image": batch["image"].astype("float32"), **inputs})["logits"]
    )
    difference, largest = abs(logits - torch_logits).max(), abs(torch_logits).max()
    print(f"logits: largest difference {difference:.1e}, largest value {largest:.1f}", flush=True)
    if difference > (0.1 if bfloat16 else 1e-4):
        sys.exit("the two networks differ")

    def make_steps(name: str) -> None:
        worker.stdin.write(f"{name} {steps}\n".encode())
        worker.stdin.flush()
        pickle.load(worker.stdout)

    return {name: functools.partial(make_steps, name) for name in TORCH_WAYS}


def random_batch() -> dict:
    """Return a batch of random faces with label 0."""
    import numpy as np

    faces = np.random.default_rng(0).integers(0, 256, (BATCH, 64, 64, 3), np.uint8)
    zeros = np.zeros(BATCH, np.int32)
    return {
        "image": faces,
        "mask": np.ones((BATCH, N_EMOTIONS), np.float32),
        **dict.fromkeys(("label", "domain", "source", "seed"), zeros),
    }


def main() -> int:
    """Time the steps of both networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=int, default=3, help="in one turn (default: %(default)s)")
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    importlib.import_module("kerasemo")  # before keras: it sets how TensorFlow computes
    batch = random_batch()

    def make_steps(step: Callable[[], float]) -> None:
        for _ in range(arguments.steps):
            step()

    functions = {}
    for name, jit_compile in (("kerasemo, no XLA", False), ("kerasemo, XLA", True)):
        model, step = kerasemo_step(arguments.precision, jit_compile, batch)
        functions[name] = functools.partial(make_steps, step)
    if importlib.util.find_spec("torch"):
        is_bfloat16 = arguments.precision == "bfloat16"
        functions |= torch_functions(model, batch, is_bfloat16, arguments.steps)
    else:
        print("torch is not installed: left out")
    seconds = timing.seconds_in_turns(functions, arguments.rounds)
    timing.report(
        f"{arguments.precision}, batches of {BATCH}",
        seconds,
        amount=arguments.steps * BATCH,
        unit="images/s",
    )
    return 0


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["serve"] else main())

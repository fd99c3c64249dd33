"""Times a training step of the default network against the same network, loss and optimiser in PyTorch.

    python benchmarks/training_step.py [--precision bfloat16] [--steps 3] [--rounds 5]

A step: uint8 faces to loss, gradients and AdamW, batches of 64. With our weights both sides must first give the same logits within
1e-4. PyTorch runs in a process of its own, which waits while ours is timed; eager and compiled, channels first and last."""

import argparse
import functools
import importlib.util
import os
import pickle
import subprocess
import sys
import time

import timing

BATCH, EMOTIONS = 64, 10
RIVALS = [
    f"PyTorch {how}, channels {where}"
    for how in ("eager", "compiled")
    for where in ("first", "last")
]


def torch_steps(weights: dict, batch: dict, bfloat16: bool):
    """Return the logits of the untrained network, and for each of RIVALS a function that makes one step."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(2)
    tensors = {name: torch.tensor(value) for name, value in weights.items()}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            layers = []
            for name in (
                name.removesuffix("/kernel")
                for name in weights
                if "_conv" in name and name.endswith("/kernel")
            ):
                # Keras pads stride 2 at the end, PyTorch at the beginning: on the mirrored image with mirrored kernels they agree.
                kernel = tensors[f"{name}/kernel"].permute(3, 2, 0, 1).flip(2, 3)
                width, channels = kernel.shape[:2]
                convolution = nn.Conv2d(
                    channels, width, 3, 2 if name.endswith("conv1") else 1, 1, bias=False
                )
                layers += [convolution, nn.GroupNorm(8, width), nn.LeakyReLU(0.01)]
                convolution.weight.data = kernel.contiguous()
            self.body = nn.Sequential(*layers)
            self.features, self.head = nn.Linear(width, 256), nn.Linear(256, EMOTIONS)
            for layer, name in ((self.features, "features"), (self.head, "head")):
                layer.weight.data, layer.bias.data = (
                    tensors[f"{name}/kernel"].T.contiguous(),
                    tensors[f"{name}/bias"],
                )

        def forward(self, image):
            features = self.features(self.body((image.float() - mean) / scale).mean((2, 3)))
            return self.head(functional.dropout(features, 0.3, self.training))

    mean, scale = (
        tensors[f"normalization/{name}"][0].permute(2, 0, 1).flip(1, 2)
        for name in ("mean", "scale")
    )
    first = torch.tensor(batch["image"]).permute(0, 3, 1, 2).flip(2, 3).contiguous()
    mask, label = torch.tensor(batch["mask"]) == 0, torch.tensor(batch["label"]).long()

    def side(compiled: bool, where: torch.memory_format):
        net, image = Net().to(memory_format=where), first.to(memory_format=where)
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-4, fused=True)
        forward = torch.compile(net) if compiled else net

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = forward(image)
            functional.cross_entropy(logits.float().masked_fill(mask, -1e9), label).backward()
            optimizer.step()

        return step

    logits = Net().eval()(first).detach().numpy()
    sides = [
        side(compiled, where)
        for compiled in (False, True)
        for where in (torch.contiguous_format, torch.channels_last)
    ]
    return logits, dict(zip(RIVALS, sides, strict=True))


def serve() -> None:
    """Be the process of PyTorch: answer with the logits, then to every name and number with as many steps."""
    read, write = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logits, steps = torch_steps(*pickle.load(read))
    pickle.dump(logits, write), write.flush()
    while line := read.readline().decode():
        name, count = line.rsplit(maxsplit=1)
        for _ in range(int(count)):
            steps[name]()
        time.sleep(0.01)  # until PyTorch's threads no longer spin: three in a thousand of its time
        pickle.dump(name, write), write.flush()


def our_step(precision: str, jit_compile: bool, batch: dict):
    """Return a model, and a function that makes one step."""
    import keras
    import tensorflow as tf

    from kerasemo.networks.network import build_network
    from kerasemo.training.stage_models import STAGE_MODELS

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    model = STAGE_MODELS["supervised"](*build_network(), sources=["faces/visual"])
    model.get_layer("normalization").fit("visual", batch["image"])
    model.compile(optimizer=keras.optimizers.AdamW(1e-3, weight_decay=1e-4))
    model.optimizer.build(model.learnt_weights)
    step, kept = (
        tf.function(model.step, jit_compile=jit_compile),
        {name: tf.constant(value) for name, value in batch.items()},
    )
    return model, lambda: float(step(kept)["loss"])


def rivals(model, batch: dict, bfloat16: bool, steps: int) -> dict:
    """Start the process of PyTorch, compare its logits with the model's, and return a function for each of RIVALS."""
    from keras import ops

    worker = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    pickle.dump(
        ({weight.path: ops.convert_to_numpy(weight) for weight in model.weights}, batch, bfloat16),
        worker.stdin,
    )
    worker.stdin.flush()
    theirs = pickle.load(worker.stdout)
    inputs = {
        "image": batch["image"].astype("float32"),
        "domain": batch["domain"],
        "seed": batch["seed"],
    }
    difference = abs(ops.convert_to_numpy(model(inputs)["logits"]) - theirs).max()
    print(
        f"logits: largest difference {difference:.1e}, largest value {abs(theirs).max():.1f}",
        flush=True,
    )
    if difference > (0.1 if bfloat16 else 1e-4):
        sys.exit("the two networks differ")

    def ask(name: str) -> None:
        worker.stdin.write(f"{name} {steps}\n".encode()), worker.stdin.flush()
        pickle.load(worker.stdout)

    return {name: functools.partial(ask, name) for name in RIVALS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=int, default=3, help="in one turn (default: %(default)s)")
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    importlib.import_module("kerasemo")  # before keras: it says how TensorFlow is to compute
    import numpy as np

    faces, zeros = (
        np.random.default_rng(0).integers(0, 256, (BATCH, 64, 64, 3), np.uint8),
        np.zeros(BATCH, np.int32),
    )
    batch = {"image": faces, "mask": np.ones((BATCH, EMOTIONS), np.float32)}
    batch |= dict.fromkeys(("label", "domain", "source", "seed"), zeros)
    (model, plain), (_, compiled) = (
        our_step(arguments.precision, jit, batch) for jit in (False, True)
    )
    ours = (("ours, no XLA", plain), ("ours, XLA", compiled))
    sides = {
        name: lambda step=step: [step() for _ in range(arguments.steps)] for name, step in ours
    }
    torch = importlib.util.find_spec("torch") or print("torch is not installed: left out")
    sides |= (
        rivals(model, batch, arguments.precision == "bfloat16", arguments.steps) if torch else {}
    )
    taken = timing.seconds_in_turns(sides, arguments.rounds)
    timing.report(
        f"{arguments.precision}, batches of {BATCH}",
        taken,
        amount=arguments.steps * BATCH,
        unit="images/s",
    )
    return 0


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["serve"] else main())

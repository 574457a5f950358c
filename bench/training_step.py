"""Time for one training step against MONAI's UNet, and the fastest arithmetic for each of our networks.

    python bench/training_step.py [--repeats 3] [--threads 1] [--device cpu]

First a step (forward, loss, backward, clipping, Adam) of model 0 in the arithmetic that `choose` takes, against a MONAI
UNet of the same width and depth with MONAI's losses and torch's Adam. Then every model in the four arithmetics, at the
size of the demo and at twice its width; the chosen one is marked. All rows run in turn, and figures are medians. One
thread on a CPU, as in each of the demo's two workers, is measured in processor time, on which other jobs have little
effect.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

import lab  # noqa: F401 - before torch: its threads then wait without spinning, as in a study

# isort: split
import torch
from torch import Tensor, nn

from lab.config import LossConfig
from lab.synthesis.device import Arithmetic, choose, use_threads
from lab.synthesis.losses import make_loss
from lab.synthesis.networks import count_parameters
from lab.synthesis.networks.paper import MODELS, build

DEMO, MEDIUM = ((40, 48, 40), 2, 8, 3), ((48, 48, 48), 1, 16, 4)  # grid, batch, width, depth
Key = TypeVar("Key", bound=Hashable)
Step = Callable[[], None]


def batch(shape: tuple[int, int, int], size: int, device: torch.device) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Inputs, target and a mask of the brain in the middle."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(size, 4, *shape, generator=generator) * 2 - 1
    brain = torch.zeros(size, 1, *shape, dtype=torch.bool)
    brain[..., 4:-4, 4:-4, 4:-4] = True
    return images[:, :3].to(device), images[:, 3:].to(device), {"brain": brain.to(device)}


def our_step(network: nn.Module, loss: str, data: tuple[Tensor, Tensor, dict[str, Tensor]], how: Arithmetic) -> Step:
    """One step as in `lab.synthesis.train`."""
    network = how.place(network.train())
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.99))
    inputs, target, masks = data

    def step() -> None:
        value = make_loss(LossConfig(name=loss))(how.run(network, inputs), target, masks)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()

    return step


def monai_step(network: nn.Module, loss: nn.Module, data: tuple[Tensor, Tensor, dict[str, Tensor]]) -> Step:
    """One step as in MONAI's tutorials."""
    network = network.to(data[0].device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.99))

    def step() -> None:
        optimiser.zero_grad()
        value = loss(torch.tanh(network(data[0])), data[1])
        value.backward()
        optimiser.step()

    return step


def take_turns(steps: dict[Key, Step], repeats: int) -> dict[Key, float]:
    """Median seconds of each step; a first round warms up."""
    clock = time.process_time if torch.get_num_threads() == 1 and not torch.cuda.is_available() else time.perf_counter
    times: dict[Key, list[float]] = {key: [] for key in steps}
    for _ in range(repeats + 1):
        for key, step in steps.items():
            start = clock()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[key].append(clock() - start)
    return {key: statistics.median(seconds[1:]) for key, seconds in times.items()}


def against_monai(repeats: int, device: torch.device) -> None:
    from monai.losses import SSIMLoss
    from monai.networks.nets import UNet

    shape, size, width, depth = (48, 64, 48), 2, 16, 4  # MONAI's needs edges divisible by 16
    data, how = batch(shape, size, device), choose(str(device))
    theirs = {"L1": nn.L1Loss(), "SSIM": SSIMLoss(spatial_dims=3, data_range=2.0)}
    for loss, monai_loss in theirs.items():
        network = build(0, width=width, depth=depth)
        unet = UNet(3, in_channels=3, out_channels=1, channels=[16, 32, 64, 128, 128], strides=[2] * 4, norm="batch")
        sizes = f"{count_parameters(network) / 1e6:.1f} and {count_parameters(unet) / 1e6:.1f} million parameters"
        steps = {"ours": our_step(network, loss, data, how), "monai": monai_step(unet, monai_loss.to(device), data)}
        found = take_turns(steps, min(repeats, 2) if loss == "SSIM" else repeats)  # MONAI's SSIM takes seconds
        print(
            f"training step, {loss}, {size} x {' x '.join(map(str, shape))}: {found['monai'] / found['ours']:.1f} x as "
            f"fast as MONAI's UNet ({found['monai']:.3f} s -> {found['ours']:.3f} s; {sizes}; ours {how.name})",
            flush=True,
        )


def arithmetics(repeats: int, device: torch.device) -> None:
    """The measurements behind `choose`."""
    ways = [Arithmetic(device, bf16, last) for bf16 in (False, True) for last in (False, True)]
    chosen = choose(str(device))
    for shape, size, width, depth in (DEMO, MEDIUM):
        print(f"\nseconds a step, width {width}, depth {depth}, {size} x {' x '.join(map(str, shape))}, L1_brain")
        print(f"{'':26}" + "".join(f"{way.name.removeprefix(f'{device} '):>24}" for way in ways))
        data = batch(shape, size, device)
        for model in MODELS:
            steps = {way: our_step(build(model, width=width, depth=depth), "L1_brain", data, way) for way in ways}
            found = take_turns(steps, repeats)
            cells = "".join(f"{f'{found[way]:.4f}' + ' *' * (way == chosen):>24}" for way in ways)
            lost = found[chosen] / min(found.values()) - 1
            print(
                f"model {model:<20}{cells}   {f'{lost:.0%} above the best' * (lost > 0)}",
                flush=True,
            )
    print("* chosen by `--train.precision auto --train.channels-last`")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    use_threads(1)
    torch.set_num_threads(arguments.threads)
    device = choose(arguments.device).device
    against_monai(arguments.repeats, device)
    arithmetics(arguments.repeats, device)


if __name__ == "__main__":
    main()

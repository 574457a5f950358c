"""Methods by name: how a model is trained and used. The loop, checkpoints and logging are shared, see `train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lab.synthesis import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lab.data.batches import Batch
    from lab.synthesis.losses.image_losses import Loss


class Method(Protocol):
    """Networks and optimisers, and what a step of training does with them."""

    network: nn.Module
    """What is packaged and used on new patients: inputs -> image."""
    loss: Loss
    """What validation measures and early stopping goes by."""

    def train_step(self, batch: Batch) -> Mapping[str, Tensor]:
        """One step of every optimiser; its figures, each a mean over patients, of which `loss` is one."""
        ...

    def predict(self, inputs: Tensor) -> Mapping[str, Tensor]:
        """`image` (B, 1, X, Y, Z) float32 of inputs (B, C, X, Y, Z), and what else it knows, (B,) each.

        Validation logs the mean of what else it knows as `val/NAME`.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that training goes on from: weights as `network` and others, states of optimisers."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`; other keys are left alone."""
        ...


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A method and its settings."""

    make: Callable[..., Method]
    """`make(network, loss, train, arithmetic, settings, channels)`: a network on the CPU, a loss, a `TrainConfig`, an
    `Arithmetic`, the method's own settings and the number of input channels."""
    settings: type | None = None
    """Frozen dataclass; each field is a flag, `--gan.l1-weight`."""


METHODS: Registry[MethodSpec] = Registry(
    "method",
    {
        "supervised": "lab.synthesis.methods.supervised:SUPERVISED",
        "gan": "lab.synthesis.methods.gan:GAN",
    },
)

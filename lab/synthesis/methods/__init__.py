"""Registry of training methods by name. The loop, checkpoints and logging are shared, see `train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lab.synthesis import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lab.data.batches import Batch
    from lab.synthesis.losses.image_losses import Loss


class Method(Protocol):
    """Networks and optimisers, and one training step on them.

    It may have `best_by`, see `loss`, or `rank(figures) -> float`, which the best epoch has least of by its figures of
    validation, and `warning(history) -> str`, a sentence for the user after an epoch ("" for none) by the figures of
    the epochs so far.
    """

    network: nn.Module
    """The network that is packaged and used on new patients: inputs -> image."""
    loss: Loss
    """The loss of validation and early stopping. A method with an attribute `best_by` stops by that figure of
    validation instead, such as `val/auc_voxels`; the highest is best. A method with a function `settle` of the
    validation cases makes its last choices there, when training has ended and `network` has the weights of the best
    epoch."""

    def train_step(self, batch: Batch) -> Mapping[str, Tensor]:
        """One step of every optimiser; returns its figures, each a mean over patients, among them `loss`."""
        ...

    def predict(self, inputs: Tensor) -> Mapping[str, Tensor]:
        """`image` (B, 1, X, Y, Z) float32 for inputs (B, C, X, Y, Z), and any further figures, (B,) each.

        Validation logs the mean of each further figure as `val/NAME`. `probability` is a map of the image's size, that
        of enhancement; validation logs its AUC inside the tumour as `val/auc_voxels` and its average precision over the
        brain as `val/precision_voxels`.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume training: weights as `network` and others, states of optimisers."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`; other keys are ignored."""
        ...


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A method and its settings."""

    make: Callable[..., Method]
    """`make(network, loss, train, arithmetic, settings, channels)`: a network on the CPU, a loss, a `TrainConfig`, an
    `Arithmetic`, the method's own settings and the number of input channels."""
    settings: type | None = None
    """Frozen dataclass; each field is a flag, `--adversarial.weight`."""
    augmented: bool = False
    """Whether `--augment.use auto` changes its training images."""
    patch_sampling: Literal["centre", "random"] = "centre"
    """Centre of its training cubes with `--train.patch-sampling auto`: `centre` or `random`."""
    network: str | None = None
    """The network of `NETWORKS` that it trains; None for any."""
    needs_t1: bool = False
    """Whether the T1 must be among the inputs, for `Batch.t1`."""


METHODS: Registry[MethodSpec] = Registry(
    "method",
    {
        "supervised": "lab.synthesis.methods.supervised:SUPERVISED",
        "adversarial": "lab.synthesis.methods.adversarial:ADVERSARIAL",
        "differentiable-judge": "lab.synthesis.methods.differentiable_judge:DIFFERENTIABLE_JUDGE",
        "flow": "lab.synthesis.methods.flow:FLOW",
        "place-and-draw": "lab.synthesis.methods.place_and_draw:PLACE_AND_DRAW",
    },
)

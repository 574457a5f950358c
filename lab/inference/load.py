"""Loading of the networks for new patients, with names and weight hashes; all share one contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from lab.data.contract import Contract
from lab.inference.tiling import outputs_of
from lab.synthesis.device import Arithmetic
from lab.tracking.models.network import Package
from lab.tracking.models.verify import fitting, load_verified


@dataclass(frozen=True, kw_only=True)
class Networks:
    """One network or an ensemble, ready to run."""

    networks: tuple[nn.Module, ...]
    contract: Contract
    about: tuple[dict[str, Any], ...]
    """For each network: model, name, version, run_id, hashes, cohort_digest, network (its settings)."""
    patches: tuple[int | None, ...]
    """Edge in voxels of each network's training patches; None for whole volumes."""
    contracts: tuple[Contract, ...] = ()
    """Of each network, where they read prepared images in ways of their own; empty where all read them as they are."""
    calibrations: tuple[dict[str, Any], ...] = ()
    """Calibration of each network, see `lab.inference.calibrate`; empty without one."""

    @property
    def phantom(self) -> bool:
        """Whether any of them was trained on phantoms."""
        return any(entry["phantom"] for entry in self.about)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the maps that all of them predict, the image first; unlike networks share the image alone."""
        names = {outputs_of(network) for network in self.networks}
        return names.pop() if len(names) == 1 else ("image",)

    @property
    def name(self) -> str:
        """Short name for a header: "sct1 v3", or "5 networks"."""
        if len(self.about) > 1:
            return f"{len(self.about)} networks"
        one = self.about[0]
        return f"{one['name']} v{one['version']}" if "name" in one else f"run {str(one.get('run_id', '?'))[:8]}"


def check_states_tumour(networks: Networks, flag: str) -> None:
    """Raises ValueError where networks state no tumour; `flag` is what asks for it."""
    if "tumour" not in networks.outputs:
        raise ValueError(
            f"{flag}: {networks.name} states no tumour, as networks of place-and-draw do; give a mask, or leave it out"
        )


def open_networks(uris: Sequence[str], arithmetic: Arithmetic) -> Networks:
    """Load models such as `models:/sct1@champion`.

    Raises as `load_verified`, and ValueError where their training images were prepared differently.
    """
    if not uris:
        raise ValueError("no model is named")
    return from_packages([load_verified(uri) for uri in uris], arithmetic)


def from_packages(packages: Sequence[tuple[Package, dict[str, Any]]], arithmetic: Arithmetic) -> Networks:
    """Networks from packages and their descriptions, which hold `model` at least.

    Raises ValueError where this version cannot prepare images for a network, or the networks' preparations differ.
    """
    uris = [about["model"] for _, about in packages]
    contracts = [Contract.read(fitting(package, uri).known) for (package, _), uri in zip(packages, uris)]
    for uri, contract in zip(uris[1:], contracts[1:]):
        own = {name: getattr(contract, name) for name in ("cohort_digest", "phantom", "normalise")}
        like = replace(contracts[0], **own)
        if contract != like:
            a, b = contract.as_dict(), like.as_dict()
            differ = "; ".join(f"{name}: {a[name]} and {b[name]}" for name in a if a[name] != b[name])[:300]
            raise ValueError(f"{uri} expects other images than {uris[0]} ({differ}); they make no ensemble")
    about = tuple(
        about
        | {
            "weights_sha256": package.weights_sha256,
            "package_sha256": package.package_sha256,
            "network": package.known["model"],
            "cohort_digest": contract.cohort_digest,
            "phantom": contract.phantom,
        }
        for (package, about), contract in zip(packages, contracts)
    )
    edges = [package.known.get("patch_mm") for package, _ in packages]
    return Networks(
        networks=tuple(arithmetic.place(package.network) for package, _ in packages),
        contract=replace(contracts[0], phantom=any(contract.phantom for contract in contracts)),
        about=about,
        patches=tuple(edge and max(1, round(edge / contracts[0].spacing_mm)) for edge in edges),
        contracts=tuple(contracts) if any(one.normalise is not None for one in contracts) else (),
        calibrations=tuple(package.calibration for package, _ in packages),
    )

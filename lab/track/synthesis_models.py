"""The networks that new patients are synthesised with: loaded, known by name and weights, and of one contract."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlflow.exceptions import MlflowException
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn

from lab.data.contract import Contract
from lab.synthesis.arithmetic import Arithmetic
from lab.track.package import load_network
from lab.track.registry import described
from lab.track.store import connect, store_trouble

PHANTOM_WARNING = (
    "PHANTOM: this model learned from simulated heads, not from patients; what it draws means nothing for a patient"
)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """One network or an ensemble, ready to run."""

    networks: tuple[nn.Module, ...]
    contract: Contract
    about: tuple[dict[str, Any], ...]
    """For each network: model, name, version, run_id, weights_sha256, cohort_digest, network (its settings)."""
    patches: tuple[int | None, ...]
    """Edge in voxels of the patches that each was trained on; None for whole volumes."""

    @property
    def phantom(self) -> bool:
        """Whether any of them learned from phantoms."""
        return any(entry["phantom"] for entry in self.about)

    @property
    def name(self) -> str:
        """Short name for a header: "sct1 v3", or "5 networks"."""
        if len(self.about) > 1:
            return f"{len(self.about)} networks"
        one = self.about[0]
        return f"{one['name']} v{one['version']}" if "name" in one else f"run {str(one.get('run_id', '?'))[:8]}"


def open_networks(uris: Sequence[str], arithmetic: Arithmetic) -> Networks:
    """Load models such as `models:/sct1@champion`.

    Raises ValueError where one is not there or none of ours, or where they were trained on images prepared differently.
    """
    if not uris:
        raise ValueError("no model is named")
    loaded = [_load(uri) for uri in uris]
    contracts = [contract for _, contract, _, _ in loaded]
    for uri, contract in zip(uris[1:], contracts[1:]):
        like = replace(contracts[0], cohort_digest=contract.cohort_digest, phantom=contract.phantom)
        if contract != like:
            raise ValueError(
                f"{uri} expects other images than {uris[0]} ({_difference(contract, like)}); they make no ensemble"
            )
    return Networks(
        networks=tuple(arithmetic.place(network) for network, _, _, _ in loaded),
        contract=replace(contracts[0], phantom=any(contract.phantom for contract in contracts)),
        about=tuple(about for _, _, about, _ in loaded),
        patches=tuple(patch for _, _, _, patch in loaded),
    )


def _load(uri: str) -> tuple[nn.Module, Contract, dict[str, Any], int | None]:
    try:
        network, known = load_network(uri)
    except MlflowException as error:
        if store_trouble(error):
            raise
        raise ValueError(f"{uri}: there is no such model ({str(error).splitlines()[0]})") from None
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{uri} is no network of this lab ({said[0]}); name one that a study has logged") from None
    if "model" not in known:
        raise ValueError(f"{uri} does not say which network it is; name one that a study has logged")
    contract = Contract.read(known)
    about: dict[str, Any] = {"model": uri, **described(uri)}
    run_id = about.get("run_id") or _run_of(uri)
    about |= {"run_id": run_id} if run_id else {}
    about |= {
        "weights_sha256": hashlib.sha256(save(network.cpu().state_dict())).hexdigest(),
        "network": known["model"],
        "cohort_digest": contract.cohort_digest,
        "phantom": contract.phantom,
    }
    return network, contract, about, _patch_edge(known, run_id, contract.spacing_mm)


def _run_of(uri: str) -> str | None:
    """The run that logged a model which has no name yet."""
    try:
        if uri.startswith("models:/m-"):
            return connect().get_logged_model(uri.removeprefix("models:/")).source_run_id
        return uri.split("/")[1] if uri.startswith("runs:/") else None
    except MlflowException:
        return None


def _patch_edge(known: dict[str, Any], run_id: str | None, spacing_mm: float) -> int | None:
    """Edge of the training patches by the package or, where that is silent, by the run's parameters."""
    text = known.get("patch_mm")
    if text is None and run_id:
        try:
            text = connect().get_run(run_id).data.params.get("train.patch_mm")
        except MlflowException:
            text = None
    return None if text in (None, "None") else max(1, round(float(text) / spacing_mm))


def _difference(one: Contract, other: Contract) -> str:
    a, b = one.as_dict(), other.as_dict()
    return "; ".join(f"{name}: {a[name]} and {b[name]}" for name in a if a[name] != b[name])[:300]

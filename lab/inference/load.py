"""The networks that new patients are synthesised with: loaded, known by name and weights, and of one contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlflow.exceptions import MlflowException
from torch import nn

from lab.data.contract import Contract
from lab.synthesis.device import Arithmetic
from lab.tracking.models.network import Package
from lab.tracking.models.registered import described
from lab.tracking.models.verify import check_seal, fitting, load_package
from lab.tracking.store import connect, store_trouble

PHANTOM_WARNING = (
    "PHANTOM: this model learned from simulated heads, not from patients; what it draws means nothing for a patient"
)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """One network or an ensemble, ready to run."""

    networks: tuple[nn.Module, ...]
    contract: Contract
    about: tuple[dict[str, Any], ...]
    """For each network: model, name, version, run_id, hashes, cohort_digest, network (its settings)."""
    patches: tuple[int | None, ...]
    """Edge in voxels of the patches that each was trained on; None for whole volumes."""
    calibrations: tuple[dict[str, Any], ...] = ()
    """What was measured of each on its own patients, see `lab.inference.calibrate`; empty where nothing was."""

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

    Raises ValueError where one is not there or none of ours, where a registered one was changed since, where images
    cannot be prepared for it, and where they were trained on images prepared differently; OSError where the store of
    models cannot be reached.
    """
    if not uris:
        raise ValueError("no model is named")
    return placed([_load(uri) for uri in uris], arithmetic)


def placed(packages: Sequence[tuple[Package, dict[str, Any]]], arithmetic: Arithmetic) -> Networks:
    """Packages and what is known of each, `about["model"]` at least, as networks ready to run.

    Raises ValueError where images cannot be prepared for one, or they were trained on images prepared differently.
    """
    uris = [about["model"] for _, about in packages]
    contracts = [Contract.read(fitting(package, uri).known) for (package, _), uri in zip(packages, uris)]
    for uri, contract in zip(uris[1:], contracts[1:]):
        like = replace(contracts[0], cohort_digest=contract.cohort_digest, phantom=contract.phantom)
        if contract != like:
            raise ValueError(
                f"{uri} expects other images than {uris[0]} ({_difference(contract, like)}); they make no ensemble"
            )
    return Networks(
        networks=tuple(arithmetic.place(package.network) for package, _ in packages),
        contract=replace(contracts[0], phantom=any(contract.phantom for contract in contracts)),
        about=tuple(about | _known(package) for package, about in packages),
        patches=tuple(_patch_edge(package) for package, _ in packages),
        calibrations=tuple(package.calibration for package, _ in packages),
    )


def _load(uri: str) -> tuple[Package, dict[str, Any]]:
    try:
        known = described(uri)  # first: an alias may move while its model is read
        package = load_package(f"models:/{known['name']}/{known['version']}" if known else uri)
        if known:
            check_seal(package, known["name"], known["version"])
    except MlflowException as error:
        said = str(error).splitlines()[0]
        if store_trouble(error):
            raise OSError(f"{uri}: the store of models cannot be read now ({said})") from error
        raise ValueError(f"{uri}: there is no such model ({said})") from None
    about: dict[str, Any] = {"model": uri, **known}
    run_id = about.get("run_id") or _run_of(uri)
    about |= {"run_id": run_id} if run_id else {}
    return package, about


def _known(package: Package) -> dict[str, Any]:
    """What a package says of itself."""
    contract = Contract.read(package.known)
    return {
        "weights_sha256": package.weights_sha256,
        "package_sha256": package.package_sha256,
        "network": package.known["model"],
        "cohort_digest": contract.cohort_digest,
        "phantom": contract.phantom,
    }


def _run_of(uri: str) -> str | None:
    """The run that logged a model which has no name yet."""
    try:
        if uri.startswith("models:/m-"):
            return connect().get_logged_model(uri.removeprefix("models:/")).source_run_id
        return uri.split("/")[1] if uri.startswith("runs:/") else None
    except MlflowException:
        return None


def _patch_edge(package: Package) -> int | None:
    """Edge in voxels of the training patches."""
    edge_mm = package.known.get("patch_mm")
    return None if edge_mm is None else max(1, round(float(edge_mm) / float(package.known["spacing_mm"])))


def _difference(one: Contract, other: Contract) -> str:
    a, b = one.as_dict(), other.as_dict()
    return "; ".join(f"{name}: {a[name]} and {b[name]}" for name in a if a[name] != b[name])[:300]

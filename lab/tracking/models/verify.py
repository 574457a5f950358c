"""Verification of registered networks: a hash of the package, set as a tag at registration and checked at loading.

The package contains the hash of its weights, so the seal covers weights, settings, contract and calibration. A
legitimate change (`lab.tracking.models.network.attach_calibration`) must renew the seal with `seal_versions`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from safetensors import SafetensorError

from lab.data.contract import read_contract
from lab.tracking.artifacts import VersionTag
from lab.tracking.models.network import Package, read_package
from lab.tracking.models.registered import described, downloaded, find_version, versions_of
from lab.tracking.store import connect, store_trouble, unless_absent

CLASSIFIER = Path("artifacts", "classifier")
"""Folder in a classifier's package."""
FOREIGN = (FileNotFoundError, NotADirectoryError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
"""Errors raised when a package that this lab did not write is read."""


def load_package(uri: str) -> Package:
    """Package of a logged or registered network.

    Raises ValueError for a model that is not a network of this lab, that needs a preparation unknown to this version,
    or whose weights were changed; MLflow's error for a missing model.
    """
    with downloaded(uri) as folder:
        return package_in(folder, uri)


def load_verified(uri: str) -> tuple[Package, dict[str, Any]]:
    """Package of a network, checked against its seal where registered, and its model (`uri`), name, version and run_id.

    Raises ValueError for a missing model, and as `load_package` and `check_seal`; OSError where the model store cannot
    be reached.
    """
    try:
        known = described(uri)  # first, since an alias may move while the model is read
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
    return package, about | ({"run_id": run_id} if run_id else {})


def _run_of(uri: str) -> str | None:
    """Run that logged a model without a registered name."""
    if uri.startswith("models:/m-"):
        logged = unless_absent(lambda: connect().get_logged_model(uri.removeprefix("models:/")))
        return None if logged is None else logged.source_run_id
    return uri.split("/")[1] if uri.startswith("runs:/") else None


def package_in(folder: Path, uri: str) -> Package:
    """Package of a network from the files of a folder. Raises ValueError as `load_package`, naming `uri`."""
    if (folder / CLASSIFIER).exists():
        raise ValueError(f"{uri} is a classifier, which draws no image; `python -m lab classify` takes it")
    try:
        package = read_package(folder / "artifacts")
    except FOREIGN as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        reason = said[0].replace(f"{folder}/", "")
        raise ValueError(f"{uri} is no network of this lab ({reason}); name one that a study has logged") from None
    except ValueError as error:
        raise ValueError(f"{uri}: {str(error).replace(f'{folder}/', '')}") from None
    return fitting(package, uri)


def fitting(package: Package, uri: str) -> Package:
    """The package itself. Raises ValueError, naming the model, for a contract that this version cannot fulfil."""
    try:
        read_contract(package.known)
    except ValueError as error:
        raise ValueError(f"{uri}: {error}") from None
    return package


def check_seal(package: Package, name: str, number: str) -> None:
    """Raises ValueError where a package differs from the one that its version was registered with.

    A version registered without this lab has no seal; its weights are checked all the same.
    """
    version = find_version(name, number)
    expected = version.tags.get(VersionTag.PACKAGE) if version else None
    if expected is not None and expected != package.package_sha256:
        raise ValueError(
            f"version {number} of {name!r} was changed after it was registered (SHA-256 of its package "
            f"{package.package_sha256[:12]}, and its tag {VersionTag.PACKAGE} asks for {expected[:12]}); restore it, "
            "or promote another"
        )


def seal_versions(model_uri: str) -> None:
    """Renew the seal of every version of a logged model, `models:/m-...`.

    Call it after a calibration was attached. Raises as `load_package`.
    """
    found = versions_of(model_uri)
    if found:
        digest = load_package(model_uri).package_sha256
        for version in found:
            version.set_tags({VersionTag.PACKAGE: digest})

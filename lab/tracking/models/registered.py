"""Models that a run has logged and models with a name: what kind they are, where they lie, which version is meant."""

from __future__ import annotations

from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from lab.io.sealed_json import read_sealed
from lab.tracking.models.download import fetched
from lab.tracking.store import connect, store_trouble

MODEL = "model_uri"
NETWORK, CLASSIFIER = "network", "classifier"
SETTINGS = {NETWORK: "artifacts/network.json", CLASSIFIER: "artifacts/classifier/contract.json"}
"""Kind of model -> the file in its package that says how images are prepared for it."""


def kind_of(source: Run) -> str:
    """What a run's model is: `network` or `classifier`."""
    return CLASSIFIER if source.data.tags.get("kind") == CLASSIFIER else NETWORK


def model_contract(source: Run) -> dict[str, Any]:
    """How images are prepared for the model of a run, read from its package.

    Raises ValueError where the model was deleted, or is none of ours.
    """
    uri, file = source.data.tags[MODEL], SETTINGS[kind_of(source)]
    told = f"the model {uri} of run {source.info.run_id}"
    place = location(source)
    try:
        with fetched(f"{place}/{file}") as path:
            known = read_sealed(path)
    except (MlflowException, OSError) as error:
        if isinstance(error, MlflowException) and store_trouble(error):
            raise
        raise ValueError(f"{told} is none of this lab, or its files are gone (no {file} in {place})") from None
    except ValueError:
        raise ValueError(f"{told} is damaged: {file} is no JSON, or was changed after it was logged") from None
    missing = [key for key in ("inputs", "target", "spacing_mm", "preparation", "phantom") if key not in known]
    if missing:
        raise ValueError(f"{told} does not say how its images were prepared: {file} lacks {', '.join(missing)}")
    return known


def location(source: Run) -> str:
    """Where the files of a run's model are. Raises ValueError where it was deleted."""
    uri = source.data.tags[MODEL]
    if not uri.startswith("models:/m-"):
        return uri
    try:
        return str(connect().get_logged_model(uri.removeprefix("models:/")).artifact_location)
    except MlflowException as error:
        if store_trouble(error):
            raise
        raise ValueError(f"the model {uri} of run {source.info.run_id} was deleted; train it again") from None


def version_of(name: str, alias: str) -> str | None:
    """The version that has an alias; None where none has. (A search of versions gives no aliases.)"""
    aliases = connect().get_registered_model(name).aliases
    found = aliases.get(alias)
    return None if found is None else str(found)


def described(model_uri: str) -> dict[str, str]:
    """Name, version and run of a registered model; of another one nothing.

    It is asked for as `models:/name@alias`, `models:/name/version` or `models:/name/latest`.
    """
    place = model_uri.removeprefix("models:/")
    name, _, alias = place.partition("@")
    try:
        if alias:
            found = connect().get_model_version_by_alias(name, alias)
        elif place.count("/") == 1 and model_uri != place:
            name, _, number = place.partition("/")
            found = connect().get_model_version(name, newest(name) if number == "latest" else number)
        else:
            return {}
    except MlflowException as error:
        if store_trouble(error):
            raise
        return {}
    return {"name": str(found.name), "version": str(found.version), "run_id": str(found.run_id)}


def newest(name: str) -> str:
    """The highest version of a name, "0" where there is none."""
    found = connect().search_model_versions(f"name = '{name}'", max_results=10_000)
    return str(max((int(one.version) for one in found), default=0))

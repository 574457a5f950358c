"""Models logged by runs and registered versions: kind, location, names and aliases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion

from lab.io.sealed_json import read_sealed
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.store import connect, unless_absent

NETWORK, CLASSIFIER = "network", "classifier"
SETTINGS = {NETWORK: "artifacts/network.json", CLASSIFIER: "artifacts/classifier/contract.json"}
"""Kind of model -> file in its package that holds the contract."""
MOST = 10_000


@contextmanager
def downloaded(uri: str) -> Iterator[Path]:
    """Temporary copy of an artifact such as `models:/sct1@champion`, deleted after the block.

    An aborted download stays in a folder of its own and is never used. Raises MLflow's error for a missing artifact.
    """
    connect()
    with TemporaryDirectory(prefix="lab-model-") as scratch:
        yield Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=scratch))


def model_kind(run: Run) -> str:
    """Kind of a run's model: `network` or `classifier`."""
    return CLASSIFIER if run.tags.get(Tag.KIND) == CLASSIFIER else NETWORK


def model_contract(run: Run) -> dict[str, Any]:
    """Contract of a run's model, read from its package.

    Raises ValueError for a model that was deleted or is not from this lab.
    """
    model, file, place = f"the model {run.tags[Tag.MODEL]} of run {run.id}", SETTINGS[model_kind(run)], location(run)

    def read() -> dict[str, Any]:
        with downloaded(f"{place}/{file}") as path:
            return read_sealed(path)

    try:
        known = unless_absent(read, OSError)
    except ValueError:
        raise ValueError(f"{model} is damaged: {file} is no JSON, or was changed after it was logged") from None
    if known is None:
        raise ValueError(f"{model} is none of this lab, or its files are gone (no {file} in {place})")
    missing = [key for key in ("inputs", "target", "spacing_mm", "preparation", "phantom") if key not in known]
    if missing:
        raise ValueError(f"{model} does not say how its images were prepared: {file} lacks {', '.join(missing)}")
    return known


def read_model_file(run: Run, name: str) -> str:
    """Text file in the package of a run's model; "" where there is none."""

    def read() -> str:
        with downloaded(f"{location(run)}/{name}") as path:
            return path.read_text()

    return unless_absent(read, OSError) or ""


def location(run: Run) -> str:
    """Location of the model files of a run. Raises ValueError where the model was deleted."""
    uri = run.tags[Tag.MODEL]
    if not uri.startswith("models:/m-"):
        return uri
    found = unless_absent(lambda: connect().get_logged_model(uri.removeprefix("models:/")))
    if found is None:
        raise ValueError(f"the model {uri} of run {run.id} was deleted; train it again")
    return str(found.artifact_location)


def delete_models(run: Run) -> None:
    """Delete the models that a run has logged."""
    client = connect()
    for left in client.search_logged_models([run.experiment], filter_string=f"source_run_id = '{run.id}'"):
        client.delete_logged_model(left.model_id)


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered version of a model."""

    name: str
    number: str
    run_id: str
    source: str
    """Location of its files."""
    tags: dict[str, str]

    def set_tags(self, tags: Mapping[str, Any]) -> Version:
        """Set tags; returns the updated version."""
        new = {str(key): str(value) for key, value in tags.items()}
        for key, value in new.items():
            connect().set_model_version_tag(self.name, self.number, key, value)
        return Version(**{**self.__dict__, "tags": self.tags | new})

    def describe(self, text: str) -> None:
        """Set its description."""
        connect().update_model_version(self.name, self.number, text)


def read_version(found: ModelVersion) -> Version:
    """Convert MLflow's record of a version."""
    return Version(
        name=str(found.name),
        number=str(found.version),
        run_id=str(found.run_id),
        source=str(found.source),
        tags=dict(found.tags),
    )


def find_version(name: str, number: str) -> Version | None:
    """Version of a registered model; None where there is none."""
    found = unless_absent(lambda: connect().get_model_version(name, number))
    return None if found is None else read_version(found)


def versions(name: str) -> list[Version]:
    """All versions of a registered model; empty for an unknown name."""
    return [read_version(found) for found in connect().search_model_versions(f"name = '{name}'", max_results=MOST)]


def versions_of(model_uri: str) -> list[Version]:
    """All versions that a logged model, `models:/m-...`, was registered as."""
    model = connect().get_logged_model(model_uri.removeprefix("models:/"))
    found = connect().search_model_versions(f"run_id = '{model.source_run_id}'", max_results=MOST)
    return [read_version(one) for one in found if one.source == model.artifact_location]


def create_version(name: str, run: Run, source: str, tags: Mapping[str, str]) -> Version:
    """Register the model of a run under a name, which is created on first use."""
    client, uri = connect(), run.tags[Tag.MODEL]
    if not is_name(name):
        client.create_registered_model(name)
    model_id = uri.removeprefix("models:/") if uri.startswith("models:/m-") else None
    made = client.create_model_version(name, source=source, run_id=run.id, model_id=model_id, tags=dict(tags))
    return read_version(made)


def is_name(name: str) -> bool:
    """Whether there is a registered model of this name."""
    return unless_absent(lambda: connect().get_registered_model(name)) is not None


def name_tags(name: str) -> dict[str, str]:
    """Tags of a registered model."""
    return dict(connect().get_registered_model(name).tags)


def set_name_tag(name: str, key: str, value: str) -> None:
    """Set a tag of a registered model."""
    connect().set_registered_model_tag(name, key, value)


def version_of(name: str, alias: str) -> str | None:
    """Version with an alias, None without one. (A search of versions returns no aliases.)"""
    found = connect().get_registered_model(name).aliases.get(alias)
    return None if found is None else str(found)


def set_alias(name: str, alias: str, number: str) -> None:
    """Set an alias on a version."""
    connect().set_registered_model_alias(name, alias, number)


def described(model_uri: str) -> dict[str, str]:
    """Name, version and run of a registered model; empty for another model.

    `model_uri` is `models:/name@alias`, `models:/name/version` or `models:/name/latest`.
    """
    place = model_uri.removeprefix("models:/")
    name, _, alias = place.partition("@")
    if alias:
        found = unless_absent(lambda: connect().get_model_version_by_alias(name, alias))
    elif place.count("/") == 1 and model_uri != place:
        name, _, number = place.partition("/")
        found = unless_absent(lambda: connect().get_model_version(name, newest(name) if number == "latest" else number))
    else:
        return {}
    if found is None:
        return {}
    return {"name": str(found.name), "version": str(found.version), "run_id": str(found.run_id)}


def newest(name: str) -> str:
    """Highest version of a registered model, "0" without one."""
    return str(max((int(one.number) for one in versions(name)), default=0))

"""From a run to a model that has a name: registered with all that it came from, and given an alias.

Networks and classifiers go through the same door. A model that learned from phantoms says so, and does not become
`champion` of a name under which patients are served.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lab.track import runs
from lab.track.record import FACTS, find_study
from lab.track.store import connect

ALIASES = ("challenger", "champion")
PHANTOM = "phantom"
MODEL = "model_uri"
KEPT = ("phantom", "cohort_digest", "label", "event", "kind", "seed")
"""Tags of the run that go along with a version."""
FIGURES = ("test/", "val/", "radiomics/")
"""Metrics of the run that go along with a version, by the beginnings of their names."""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A version that was given an alias."""

    name: str
    version: str
    alias: str
    run_id: str
    before: str | None
    """The version that had the alias until now."""

    @property
    def uri(self) -> str:
        """How the model is asked for."""
        return f"models:/{self.name}@{self.alias}"


def promote(run: str, name: str, alias: str = "challenger") -> Promotion:
    """Register the model of a run (once) under `name` and give it the alias.

    `run` is the id of a trial's or a study's run, or a study's name: of a study the best is taken. Raises ValueError
    for a run without a model, an unknown alias, and a champion that learned from phantoms where the name does not say
    so.
    """
    if alias not in ALIASES:
        raise ValueError(f"--alias {alias}: known are {', '.join(ALIASES)}")
    client = connect()
    source = run_with_model(run)
    phantom = source.data.tags.get("phantom") == "True"
    if phantom and alias == "champion" and PHANTOM not in name.lower():
        raise ValueError(
            f"run {source.info.run_id} learned from phantoms and cannot become champion of {name!r}, under which "
            f"patients may be served; give it a name with the word {PHANTOM} in it, such as {name}-{PHANTOM}"
        )
    version = register(source, name)
    before = version_of(name, alias)
    client.set_registered_model_alias(name, alias, version.version)
    client.set_tag(source.info.run_id, "registered", f"{name} version {version.version}")
    return Promotion(name=name, version=str(version.version), alias=alias, run_id=source.info.run_id, before=before)


def run_with_model(run: str) -> Run:
    """The run itself, or, of a study, that of its best network. Raises ValueError where there is no model."""
    client = connect()
    try:
        found = client.get_run(run)
    except MlflowException:
        found = client.get_run(find_study(run))
    if MODEL not in found.data.tags and runs.has_file(found.info.run_id, FACTS):
        facts = json.loads(runs.read_text(found.info.run_id, FACTS))
        found = client.get_run(facts["runs"][str(facts["best"])][0])
    if MODEL not in found.data.tags:
        raise ValueError(f"run {run} ({found.info.run_name}) has no model; name a finished trial, or a study")
    return found


def register(source: Run, name: str) -> ModelVersion:
    """The version of a run under a name, created on first use with the run's cohort, commit and figures as tags."""
    client = connect()
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    found = client.search_model_versions(f"name = '{name}' and run_id = '{source.info.run_id}'")
    if found:
        return found[0]
    own = source.data.tags
    tags: dict[str, str] = {key: own[key] for key in KEPT if key in own}
    tags |= {"commit": own["mlflow.source.git.commit"]} if "mlflow.source.git.commit" in own else {}
    tags |= {key: f"{value:.6g}" for key, value in source.data.metrics.items() if key.startswith(FIGURES)}
    uri = own[MODEL]
    model_id = uri.removeprefix("models:/") if uri.startswith("models:/m-") else None
    location = client.get_logged_model(model_id).artifact_location if model_id else uri
    return client.create_model_version(name, source=location, run_id=source.info.run_id, model_id=model_id, tags=tags)


def version_of(name: str, alias: str) -> str | None:
    """The version that has an alias; None where none has. (A search of versions gives no aliases.)"""
    aliases = connect().get_registered_model(name).aliases
    found = aliases.get(alias)
    return None if found is None else str(found)


def described(model_uri: str) -> dict[str, str]:
    """Name, version and run of a registered model, `models:/name@alias` or `models:/name/version`; else nothing."""
    place = model_uri.removeprefix("models:/")
    name, _, alias = place.partition("@")
    try:
        if alias:
            found = connect().get_model_version_by_alias(name, alias)
        elif place.count("/") == 1:
            found = connect().get_model_version(*place.split("/"))
        else:
            return {}
    except MlflowException:
        return {}
    return {"name": str(found.name), "version": str(found.version), "run_id": str(found.run_id)}

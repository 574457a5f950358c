"""From a run to a model that has a name: registered with all that it came from, and given an alias.

Networks and classifiers go through the same door. A model that learned from phantoms says so, and does not become
`champion` of a name under which patients are served. Whether a model deserves to be champion is for the gate to say
(gate.py), which `python -m lab promote` goes through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lab.experiments.synthesis.record import FACTS, find_study
from lab.inference.calibrate_run import DONE, calibrate_models, summary_lines
from lab.registry import history as gate_history
from lab.registry.history import CHAMPION
from lab.synthesis.device import choose
from lab.tracking import runs
from lab.tracking.models.registered import MODEL, NETWORK, kind_of, location, model_contract, version_of
from lab.tracking.store import RUNS, connect, store_trouble

if TYPE_CHECKING:
    from lab.tracking.models.network import Package

ALIASES = ("challenger", CHAMPION)
PHANTOM = "phantom"
KEPT = ("phantom", "cohort_digest", "label", "event", "kind", "seed", "git_dirty", "fold")
"""Tags of the run that go along with a version."""
FIGURES = ("test/", "val/", "radiomics/")
"""Metrics of the run that go along with a version, by the beginnings of their names."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
Admit = Callable[[Run, ModelVersion], str]


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


def promote(
    run: str,
    name: str,
    alias: str = "challenger",
    *,
    admit: Admit | None = None,
    reason: str = "",
    tags: Mapping[str, str] | None = None,
) -> Promotion:
    """Register the model of a run (once) under `name` and give it the alias, which comes last.

    `run` is the id of a trial's or a study's run, or a study's name: of a study the best is taken. `admit` is called
    with run and version before the alias moves; it raises where it must not, and otherwise says how the version got
    there ("gate", "forced"), for the history; `reason` goes with that. Without it no gate is held, and the history says
    so. `tags` go on a version that is new.

    Raises ValueError for a run without a model of ours, an unknown alias, and a champion that learned from phantoms
    where the name does not say so.
    """
    if alias not in ALIASES:
        raise ValueError(f"--alias {alias}: known are {', '.join(ALIASES)}")
    if not NAME.fullmatch(name):
        raise ValueError(f"--name {name!r}: letters, digits, '.', '-' and '_', beginning with a letter or digit")
    client = connect()
    source = run_with_model(run)
    contract = model_contract(source)
    if alias == CHAMPION:
        refuse_phantom(name, contract["phantom"] or source.data.tags.get("phantom") == "True", source.info.run_id)
    with FileLock(RUNS / "registry.lock"):  # two calls at once see one champion
        version = register(source, name, contract, tags or {})
        before = version_of(name, alias)
        again = before == str(version.version)
        how = admit(source, version) if admit is not None else "without gate"
        if alias == CHAMPION and not again:
            crown(name, str(version.version), how, reason if how == "forced" else "")
        elif not again:
            client.set_registered_model_alias(name, alias, version.version)
    client.set_tag(source.info.run_id, "registered", f"{name} version {version.version}")
    return Promotion(name=name, version=str(version.version), alias=alias, run_id=source.info.run_id, before=before)


def roll_back(name: str, reason: str = "") -> Promotion:
    """Give champion back to the version before; what happened stays in the history.

    Raises ValueError where there is no such name, no champion or none before it, and where the one before learned from
    phantoms and the name does not say so.
    """
    client = connect()
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if store_trouble(error):
            raise
        raise ValueError(f"there is no registered model {name!r}") from None
    with FileLock(RUNS / "registry.lock"):
        current, version = version_of(name, CHAMPION), client.get_model_version(name, gate_history.before(name))
        refuse_phantom(name, version.tags.get("phantom") == "True", f"of version {version.version}")
        crown(name, str(version.version), "rollback", reason)
    return Promotion(
        name=name, version=str(version.version), alias=CHAMPION, run_id=str(version.run_id), before=current
    )


def crown(name: str, version: str, how: str, reason: str) -> None:
    """Move the alias, with what it was and why in the history."""
    event = gate_history.note(name, version, how, reason)
    connect().set_registered_model_alias(name, CHAMPION, version)
    gate_history.confirm(name, event)


def refuse_phantom(name: str, phantom: bool, run: str) -> None:
    """Raises ValueError for a champion that learned from phantoms under a name that does not say so."""
    if phantom and PHANTOM not in name.lower():
        raise ValueError(
            f"run {run} learned from phantoms and cannot become champion of {name!r}, under which patients may be "
            f"served; give it a name with the word {PHANTOM} in it, such as {name}-{PHANTOM}"
        )


def run_with_model(run: str) -> Run:
    """The run itself, or, of a study, that of its best network: with its first seed, on its first fold.

    Raises ValueError where there is no model, or the run was deleted or has not come to its end.
    """
    client = connect()
    try:
        found = client.get_run(run)
    except MlflowException:
        found = client.get_run(find_study(run))
    if MODEL not in found.data.tags and runs.has_file(found.info.run_id, FACTS):
        facts = json.loads(runs.read_text(found.info.run_id, FACTS))
        best = facts["runs"][str(facts["best"])][0]
        try:
            found = client.get_run(best)
        except MlflowException as error:
            if store_trouble(error):
                raise
            raise ValueError(
                f"the best run of study {run}, {best}, was deleted for good; run the study again"
            ) from None
    told = f"run {run} ({found.info.run_name})"
    if found.info.lifecycle_stage == "deleted":
        raise ValueError(f"{told} was deleted; mlflow.MlflowClient().restore_run brings it back")
    if found.info.status != "FINISHED":
        state = found.data.tags.get("state", found.info.status.lower())
        raise ValueError(f"{told} has not come to its end ({state}); run its study again, it goes on")
    if MODEL not in found.data.tags:
        raise ValueError(f"{told} has no model of this lab; name a finished trial, or a study")
    return found


def register(source: Run, name: str, contract: dict[str, Any], more: Mapping[str, str]) -> ModelVersion:
    """The version of a run's model under a name, created on first use with what it came from as tags.

    Those are the run's cohort, commit, preparation and figures, the hash of a network's package, and `more`. Raises
    ValueError where the name serves the other kind of model, where the network's package is damaged or images cannot be
    prepared for it, and where it was changed after it was registered.
    """
    client, kind, place = connect(), kind_of(source), location(source)
    package = read_whole(place) if kind == NETWORK else None  # before there is a name
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    there = client.search_model_versions(f"name = '{name}'", max_results=10_000)
    kinds = {one.tags.get("kind", NETWORK) for one in there}
    if kinds - {kind}:
        raise ValueError(f"{name!r} serves {kinds.pop()}s, and run {source.info.run_id} is a {kind}: take another name")
    for one in there:
        if one.source == place or one.run_id == source.info.run_id:
            return one if package is None else sealed(one, package)
    own = source.data.tags
    tags: dict[str, str] = {key: own[key] for key in KEPT if key in own} | {"kind": kind} | dict(more)
    tags |= {"phantom": str(bool(contract["phantom"]))} if contract["phantom"] else {}
    tags |= {"commit": own["mlflow.source.git.commit"]} if "mlflow.source.git.commit" in own else {}
    tags |= {"preparation": json.dumps({key: value for key, value in contract.items() if key != "model"})}
    tags |= {key: f"{value:.6g}" for key, value in source.data.metrics.items() if key.startswith(FIGURES)}
    tags |= {} if package is None else {"package_sha256": package.package_sha256}
    uri = own[MODEL]
    model_id = uri.removeprefix("models:/") if uri.startswith("models:/m-") else None
    if package is not None and model_id is not None:
        from lab.tracking.models.network import attach_code

        attach_code(uri)
    return client.create_model_version(name, source=place, run_id=source.info.run_id, model_id=model_id, tags=tags)


def read_whole(place: str) -> Package:
    """A network's package. Raises ValueError where it is damaged, gone, or images cannot be prepared for it."""
    from lab.tracking.models.verify import load_package  # torch is for networks alone

    try:
        return load_package(place)
    except MlflowException as error:
        if store_trouble(error):
            raise
        raise ValueError(f"{place}: the files of the model are gone ({str(error).splitlines()[0]})") from None


def sealed(version: ModelVersion, package: Package) -> ModelVersion:
    """A network's version, with the hash of its package where it had none. Raises ValueError where that differs."""
    from lab.tracking.models.verify import SEAL, check_seal

    check_seal(package, version.name, str(version.version))
    if SEAL not in version.tags:
        connect().set_model_version_tag(version.name, version.version, SEAL, package.package_sha256)
    return version


def calibrate_before_promotion(run: str, say: Callable[[str], None] = print) -> None:
    """Measure a network that is about to be registered and was not measured by its study: only its best one is.

    `run` is as in `lab.registry.promotion.promote`. Where its cohort is not there any more, that is told and nothing
    done.
    """
    source = run_with_model(run)
    if kind_of(source) != NETWORK or DONE in source.data.tags:
        return
    say("Calibrating it on its own validation patients: only the best network of a study is calibrated by that")
    try:
        say("\n".join(summary_lines(calibrate_models([source.data.tags["model_uri"]], choose("auto", "auto")))))
    except ValueError as error:
        say(f"It is registered without calibration: {error}")

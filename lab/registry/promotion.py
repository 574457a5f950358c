"""Promotion of a run's model: registration under a name with its origin, and an alias.

Networks and classifiers are promoted alike. A model trained on phantoms is marked as such, and never becomes `champion`
of a name that serves patients. The gate (gate.py), which `python -m lab promote` goes through, decides whether a model
deserves to be champion.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock

from lab.inference.calibrate_run import calibrate_models, summary_lines
from lab.registry.candidate import Candidate, run_with_model
from lab.registry.history import CHAMPION, champion_before, set_champion
from lab.synthesis.device import choose
from lab.tracking.artifacts import Tag, VersionTag
from lab.tracking.models.registered import (
    NETWORK,
    Version,
    create_version,
    find_version,
    is_name,
    location,
    model_kind,
    set_alias,
    version_of,
    versions,
)
from lab.tracking.run import Run
from lab.tracking.store import RUNS, connect, unless_absent

if TYPE_CHECKING:
    from lab.tracking.models.network import Package

ALIASES = ("challenger", CHAMPION)
PHANTOM = "phantom"
KEPT = (Tag.PHANTOM, Tag.COHORT, Tag.LABEL, Tag.EVENT, Tag.KIND, Tag.SEED, Tag.GIT_DIRTY, Tag.FOLD)
"""Tags of the run that are copied to a version."""
FIGURES = ("test/", "val/", "radiomics/")
"""Metrics of the run that are copied to a version, by prefix."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
BeforeAlias = Callable[[Version], str]


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A version that was given an alias."""

    name: str
    version: str
    alias: str
    run_id: str
    before: str | None
    """Version that had the alias before."""

    @property
    def uri(self) -> str:
        """URI of the model by its alias."""
        return f"models:/{self.name}@{self.alias}"


def promote(run: str, name: str, alias: str = "challenger") -> Promotion:
    """Register the model of a run (once) under `name` and set the alias, without a gate, which the history records.

    `run` is the id of a trial's or a study's run, or a study's name; a study stands for its best network. Raises
    ValueError for a run without a model of this lab, an unknown alias, and a champion trained on phantoms where the
    name does not say so.
    """
    return promote_candidate(Candidate(run_with_model(run)), name, alias)


def promote_candidate(
    candidate: Candidate,
    name: str,
    alias: str,
    *,
    before_alias: BeforeAlias | None = None,
    reason: str = "",
    tags: Mapping[str, str] | None = None,
) -> Promotion:
    """As `promote`, with a gate.

    `before_alias` is called with the version before the alias moves. It raises to refuse, and otherwise returns "gate"
    or "forced" for the history; `reason` goes with "forced". `tags` are set on a new version.
    """
    if alias not in ALIASES:
        raise ValueError(f"--alias {alias}: known are {', '.join(ALIASES)}")
    if not NAME.fullmatch(name):
        raise ValueError(f"--name {name!r}: letters, digits, '.', '-' and '_', beginning with a letter or digit")
    run = candidate.run
    phantom = candidate.contract["phantom"] or run.tags.get(Tag.PHANTOM) == "True"
    if alias == CHAMPION:
        refuse_phantom(name, phantom, run.id)
    with FileLock(RUNS / "registry.lock"):  # two calls at once must see one champion
        version = register(candidate, name, tags or {})
        before = version_of(name, alias)
        how = before_alias(version) if before_alias is not None else "without gate"
        if before != version.number:
            if alias == CHAMPION:
                set_champion(name, version.number, how, reason if how == "forced" else "")
            else:
                set_alias(name, alias, version.number)
    run.set_tags({Tag.REGISTERED: f"{name} version {version.number}"})
    return Promotion(name=name, version=version.number, alias=alias, run_id=run.id, before=before)


def roll_back(name: str, reason: str = "") -> Promotion:
    """Make the previous version champion again; the history keeps all events.

    Raises ValueError for an unknown name, without a champion or a previous one, and where the previous one was trained
    on phantoms and the name does not say so.
    """
    connect()
    if not is_name(name):
        raise ValueError(f"there is no registered model {name!r}")
    with FileLock(RUNS / "registry.lock"):
        current, version = version_of(name, CHAMPION), find_version(name, champion_before(name))
        assert version is not None
        refuse_phantom(name, version.tags.get(Tag.PHANTOM) == "True", f"of version {version.number}")
        set_champion(name, version.number, "rollback", reason)
    return Promotion(name=name, version=version.number, alias=CHAMPION, run_id=version.run_id, before=current)


def refuse_phantom(name: str, phantom: bool, run: str) -> None:
    """Raises ValueError for a champion trained on phantoms under a name that does not say so."""
    if phantom and PHANTOM not in name.lower():
        raise ValueError(
            f"run {run} learned from phantoms and cannot become champion of {name!r}, under which patients may be "
            f"served; give it a name with the word {PHANTOM} in it, such as {name}-{PHANTOM}"
        )


def register(candidate: Candidate, name: str, more: Mapping[str, str]) -> Version:
    """Version of a run's model under a name, created on first use with its origin as tags.

    These are the run's cohort, commit, preparation and figures, the hash of a network's package, and `more`. Raises
    ValueError where the name serves the other kind of model, where the network's package is damaged, needs an unknown
    preparation, or was changed after registration.
    """
    run, kind, place = candidate.run, model_kind(candidate.run), location(candidate.run)
    there = versions(name)
    kinds = {one.tags.get(Tag.KIND, NETWORK) for one in there}
    if kinds - {kind}:
        raise ValueError(f"{name!r} serves {kinds.pop()}s, and run {run.id} is a {kind}: take another name")
    package = None if candidate.is_classifier else package_at(place)  # checked before the name is created
    for one in there:
        if one.source == place or one.run_id == run.id:
            return one if package is None else verified(one, package)
    contract, own = candidate.contract, run.tags
    tags = {str(key): own[key] for key in KEPT if key in own} | {str(Tag.KIND): kind} | dict(more)
    tags |= {Tag.PHANTOM: "True"} if contract["phantom"] else {}
    tags |= {VersionTag.COMMIT: own[Tag.COMMIT]} if Tag.COMMIT in own else {}
    tags |= {VersionTag.PREPARATION: json.dumps({key: value for key, value in contract.items() if key != "model"})}
    tags |= {key: f"{value:.6g}" for key, value in run.metrics.items() if key.startswith(FIGURES)}
    if package is not None:
        from lab.tracking.models.network import attach_code

        tags |= {VersionTag.PACKAGE: package.package_sha256}
        if own[Tag.MODEL].startswith("models:/m-"):
            attach_code(own[Tag.MODEL])
    return create_version(name, run, place, {str(key): value for key, value in tags.items()})


def package_at(place: str) -> Package:
    """A network's package. Raises ValueError where it is damaged, gone, or needs an unknown preparation."""
    from lab.tracking.models.verify import load_package  # torch is needed for networks only

    package = unless_absent(lambda: load_package(place))
    if package is None:
        raise ValueError(f"{place}: the files of the model are gone")
    return package


def verified(version: Version, package: Package) -> Version:
    """A network's version, given a hash of its package where it had none. Raises ValueError where the hash differs."""
    from lab.tracking.models.verify import check_seal

    check_seal(package, version.name, version.number)
    if VersionTag.PACKAGE in version.tags:
        return version
    return version.set_tags({VersionTag.PACKAGE: package.package_sha256})


def calibrate_before_promotion(run: Run, say: Callable[[str], None] = print) -> None:
    """Calibrate a network before registration; a study calibrates only its best one.

    Without its cohort, prints a line and does nothing.
    """
    if model_kind(run) != NETWORK or Tag.CALIBRATED in run.tags:
        return
    say("Calibrating it on its own validation patients: only the best network of a study is calibrated by that")
    try:
        say("\n".join(summary_lines(calibrate_models([run.tags[Tag.MODEL]], choose("auto", "auto")))))
    except ValueError as error:
        say(f"It is registered without calibration: {error}")

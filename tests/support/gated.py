"""Runs as studies leave them, made in a moment: patients with known skill, packages of an untrained network."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save
from scipy.special import expit

from lab.config import GateSettings
from lab.data.case import VERSION
from lab.evaluation.enhancement import SUMS, gain_sums
from lab.radiomics.assess.external import ExternalTest
from lab.registry import history as gate_history
from lab.registry.gate import GateRefused, Outcome, promote_through_gate
from lab.report.tables.gate import Verdict
from lab.synthesis.networks.paper import build
from lab.tracking.artifacts import Tag
from lab.tracking.models.registered import version_of
from lab.tracking.store import connect, experiment_id

EXPERIMENT = "gated"
VOXEL_ML = 0.1
MODEL = {"id": 0, "width": 2, "depth": 1, "norm": "batch", "dropout": 0.5}


def patients(
    numbers: Sequence[int], skill: float, *, noise: int = 0, mae: float = 0.1, made_up: float = 0.2, cohort: int = 0
) -> pd.DataFrame:
    """The columns of `evaluate` that the gate and the card read; every fifth patient but two enhances.

    `skill` is the share of the true rise that is drawn, `noise` the seed of what is random in it, `mae` that of the
    brain, `made_up` millilitres in patients who do not enhance, `cohort` the seed of the true scans.
    """
    rows = []
    for i in numbers:
        truth, own = np.random.default_rng([cohort, i]), np.random.default_rng([7, noise, i])
        enhances = i % 5 < 3
        real = truth.gamma(2, 0.2, 80) if enhances else truth.normal(0, 0.03, 80)
        drawn = (skill + 0.1 * own.normal()) * real + 0.05 * own.normal(size=80)
        ml, overlap = VOXEL_ML * (real > 0.3).sum(), VOXEL_ML * ((real > 0.3) & (drawn > 0.3)).sum()
        extra = 0.0 if enhances else made_up * own.uniform(0.5, 1.5)
        predicted = VOXEL_ML * (drawn > 0.3).sum() + extra
        row: dict[str, Any] = {"case_id": f"case-{i:03d}", "patient_id": f"p{i:03d}", "enhancing": enhances}
        row |= dict(zip(SUMS, gain_sums(drawn, real)))
        row |= {"mae_brain": mae * own.uniform(0.98, 1.02), "mae_tumour": 1.5 * mae, "ssim_brain": 1 - mae}
        row |= {"ml_predicted": predicted, "ml_near": 8.0, "enhancement_level": predicted, "mae_balanced": mae}
        row |= {"midline_ml_false": 0.0, "checkerboard": 0.004, "checkerboard_true": 0.002, "sharpness": 0.7}
        row |= {"floor_mae": 0.02, "noise_sd": 0.03}
        figures = {"ml": ml, "enhances": float(enhances), "overlap_ml": overlap, "bias_ml": predicted - ml}
        figures |= {"dice": 2 * overlap / max(ml + predicted, 1e-9), "lesions": float(enhances)}
        figures |= {"found": float(overlap > 0), "missed": float(enhances and overlap == 0), "false": float(extra > 0)}
        figures |= {"hallucinated_ml": np.nan if enhances else predicted, "contrast": skill, "cnr": 5 * skill}
        for ending in ("rule", "expert"):
            row |= {f"{name}_{ending}": value for name, value in figures.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def split_of(test: Sequence[int], train: Sequence[int] = (), val: Sequence[int] = ()) -> pd.DataFrame:
    """A split table."""
    parts = {"test": test, "train": train, "val": val}
    rows = [(f"case-{i:03d}", f"p{i:03d}", i % 5 < 3, part) for part, numbers in parts.items() for i in numbers]
    return pd.DataFrame(rows, columns=["case_id", "patient_id", "enhancing", "split"])


def network_run(
    name: str,
    table: pd.DataFrame | None,
    *,
    split: pd.DataFrame | None = None,
    phantom: bool = False,
    digest: str = "d" * 32,
    rivals: tuple[float, float] = (0.0, 0.25),
) -> str:
    """Run id of a trial of a study of its own; `rivals` are the skills of copied T1 and linear regression."""
    tags = {"cohort_digest": digest, "phantom": phantom, "label": name, "seed": 0, "state": "finished"}
    files, beside = {}, {}
    if table is not None:
        cases = [int(case.rpartition("-")[2]) for case in table["case_id"]]
        files = {"test_patients.csv": table, "split.csv": split_of(cases) if split is None else split}
        beside = {"rivals/test_patients.csv": trivial(cases, rivals)}
    parent = finished_run(f"study of {name}", {}, beside)
    run_id = finished_run(name, {**tags, Tag.PARENT: parent}, files)
    if table is not None:
        connect().log_metric(run_id, "test/mae_brain", float(table["mae_brain"].mean()))
    package(run_id, network_files({"patch_mm": None, **contract(digest, phantom)}))
    return run_id


def trivial(cases: Sequence[int], skills: tuple[float, float] = (0.0, 0.25)) -> pd.DataFrame:
    """The rivals' table."""
    tables = [
        patients(cases, skill, noise=90 + i, mae=0.12, made_up=0.1).assign(trial=rival)
        for i, (rival, skill) in enumerate(zip(("copy T1", "linear regression"), skills))
    ]
    return pd.concat(tables)


def folded_runs(
    name: str, count: int, skill: float, *, folds: int = 3, seeds: int = 1, noise: int = 0, tested: int | None = None
) -> list[str]:
    """Run ids of a cross-validated network, by fold and seed; every `folds`-th of `count` patients is in one fold.

    Who is not tested in a fold is trained on, but for every seventh, on whom it is validated. Of `tested` folds only
    there are runs. A seed draws better by 0.1 than the one before it.
    """
    dealt = [[i for i in range(count) if i % folds == fold] for fold in range(folds)]
    splits = [
        split_of(
            test, [i for i in range(count) if i not in test and i % 7], [i for i in range(0, count, 7) if i not in test]
        )
        for test in dealt
    ]
    numbered = pd.concat([split.assign(fold=fold) for fold, split in enumerate(splits, start=1)])
    parent = finished_run(
        f"study of {name}", {}, {"rivals/test_patients.csv": trivial(range(count)), "split.csv": numbered}
    )
    found = []
    for fold, (test, split) in enumerate(zip(dealt[:tested], splits), start=1):
        for seed in range(seeds):
            table = patients(test, skill + 0.1 * seed, noise=noise + 1000 * seed)
            tags = {"cohort_digest": "d" * 32, "phantom": False, "label": name, "seed": seed, "state": "finished"}
            files = {"test_patients.csv": table.assign(vendor="GE"), "split.csv": split}
            found.append(finished_run(f"{name} {fold}", {**tags, "fold": fold, Tag.PARENT: parent}, files))
            package(found[-1], network_files({"patch_mm": None, **contract("d" * 32, False)}))
    return found


@functools.cache
def weights() -> bytes:
    """Those of a network of two filters."""
    return save(build(MODEL["id"], width=2, depth=1, norm="batch", dropout=0.5, seed=0).state_dict())


def network_files(known: dict[str, Any]) -> dict[str, Any]:
    """The files of a network's package."""
    settings = {"model": MODEL, **known, "weights_sha256": hashlib.sha256(weights()).hexdigest()}
    return {"artifacts/network.json": settings, "artifacts/weights.safetensors": weights()}


def finished_run(name: str, tags: dict[str, Any], files: dict[str, Any]) -> str:
    """Run id of a finished run with these tags and artifacts: tables, or what JSON can hold."""
    client = connect()
    own = {key: str(value) for key, value in tags.items()} | {"mlflow.source.git.commit": "c" * 40}
    run_id = client.create_run(experiment_id(EXPERIMENT), tags=own, run_name=name).info.run_id
    with tempfile.TemporaryDirectory() as scratch:
        for file, content in files.items():
            path = Path(scratch) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.to_csv(index=False) if isinstance(content, pd.DataFrame) else json.dumps(content))
        client.log_artifacts(run_id, scratch)
    client.set_terminated(run_id)
    return run_id


def classifier_run(
    name: str,
    count: int,
    strength: float,
    *,
    noise: int = 0,
    sharpness: float = 1.0,
    volume: float = 0.3,
    first: int = 0,
    digest: str = "d" * 32,
    event: str = "enhancing",
    flip: int = 0,
    size: float = 1.0,
    area: tuple[float, float, float] = (0.8, 0.8, 0.8),
    external: Sequence[ExternalTest] = (),
) -> str:
    """Run id of a classifier study; `strength` and `volume` are how well it and the tumour's volume tell the classes.

    `sharpness` stretches its probabilities, `flip` labels are turned, `size` is that of the tumours, `area` the AUC
    that its table says, with the ends of its interval; `external` are its tests on other cohorts.
    """
    numbers = np.arange(first, first + count)
    labels = numbers % 2
    labels[:flip] = 1 - labels[:flip]
    tables = []
    for method, power, seed in (("radiomics", strength, noise), ("tumour volume", volume, 99)):
        draws = np.array([np.random.default_rng([seed, i]).normal() for i in numbers])
        score = expit((sharpness if method == "radiomics" else 1.0) * (power * (2 * labels - 1) + draws))
        tables.append(
            pd.DataFrame(
                {"method": method, "patient_id": [f"p{i:03d}" for i in numbers], "label": labels, "score": score}
            )
        )
    everybody = pd.concat(tables, ignore_index=True)
    performance = pd.DataFrame(
        {"method": ["radiomics", "tumour volume"], "patients": count}
        | {key: [0.8, 0.6] for fig in ("auc", "brier", "slope") for key in (fig, f"{fig}_low", f"{fig}_high")}
    )
    performance.loc[0, ["auc", "auc_low", "auc_high"]] = area
    subgroups = pd.DataFrame(
        [
            ("radiomics", "vendor", "GE", 30, 15, 0.8, 0.7, 0.9, ""),
            ("radiomics", "vendor", "Siemens", 6, 1, np.nan, np.nan, np.nan, "too few"),
        ],
        columns=["method", "by", "group", "n", "events", "auc", "low", "high", "note"],
    )
    known = pd.DataFrame({"case_id": [f"c{i}" for i in numbers], "patient_id": [f"p{i:03d}" for i in numbers]})
    facts = {"main": "radiomics", "experiment": "classifier", "question": "Does it?", "patients": count, "folds": 5}
    facts |= {"events": int(labels.sum()), "event": event, "repeats": 4, "label_rule": "by hand", "warnings": []}
    files = {"patients.csv": known.assign(tumour_ml=size * (10.0 + numbers)), "classifier.json": facts}
    files |= {
        "tables/patients.csv": everybody,
        "tables/performance.csv": performance,
        "tables/subgroups.csv": subgroups,
    }
    for test in external:
        tables = {**test.assessment.tables(), "predictions": test.predictions}
        files |= {f"external/{test.slug}/{key}.csv": table for key, table in tables.items()}
        files |= {f"external/{test.slug}/facts.json": test.facts}
    tags = {"kind": "classifier", "event": event, "phantom": False, "cohort_digest": digest, "role": "study"}
    study = finished_run(name, tags, files)
    package(study, {"artifacts/classifier/contract.json": contract(digest, False)})
    return study


def contract(digest: str, phantom: bool) -> dict[str, Any]:
    """How images are prepared for it."""
    how = {"brain_mask": "nonzero", "clip_sigma": 4.0, "enhancement_threshold": 0.3, "enhancing_ml": 0.5}
    known: dict[str, Any] = {"inputs": ["T1", "T2", "FLAIR"], "target": "T1GD", "spacing_mm": 2.0}
    known |= {"shape": [80, 96, 80], "preparation": how, "layout": "brats2023", "preparation_version": VERSION}
    return known | {"cohort_digest": digest, "phantom": phantom}


def package(run_id: str, files: dict[str, Any]) -> str:
    """A logged model of these files, bytes or what JSON can hold, named on the run; returns its URI."""
    client = connect()
    tags = client.get_run(run_id).data.tags
    if "model_uri" in tags:
        return str(tags["model_uri"])
    model = client.create_logged_model(experiment_id(EXPERIMENT), name="network", source_run_id=run_id)
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            path = Path(scratch) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        (Path(scratch) / "requirements.txt").write_text("torch==2.13.0\nmlflow==3.17.2\n")
        client.log_model_artifacts(model.model_id, scratch)
    client.finalize_logged_model(model.model_id, "READY")
    client.set_tag(run_id, "model_uri", f"models:/{model.model_id}")
    return f"models:/{model.model_id}"


QUICK = GateSettings(resamples=500)


def through(run: str, name: str, alias: str = "champion", **options: Any) -> Outcome:
    """Promote with few draws."""
    return promote_through_gate(run, name, alias, settings=QUICK, **options)


def refused(run: str, name: str) -> Verdict:
    """What the gate says of a run that it refuses; whoever is champion stays so."""
    before = version_of(name, "champion") if name in known() else None
    with pytest.raises(GateRefused) as caught:
        through(run, name)
    assert version_of(name, "champion") == before
    return caught.value.verdict


def known() -> set[str]:
    """Names of all registered models."""
    return {one.name for one in connect().search_registered_models()}


def tags(name: str, version: str = "1") -> dict[str, str]:
    """Of a version."""
    return connect().get_model_version(name, version).tags


def hows(name: str) -> list[str]:
    """How each champion of a name came to be it."""
    return [event.how for event in gate_history.history(name)]


def failed(verdict: Verdict) -> list[tuple[str, str]]:
    """Figure and opponent of each test that failed."""
    return [(check.figure, check.against) for check in verdict.checks if not check.passed]

"""The end of a study: the test patients are read, once, and the report is left on the parent run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import Run

from lab.config import Config, override
from lab.data.batches import Batch, CaseStore
from lab.synthesis.arithmetic import Arithmetic, choose, use_threads
from lab.synthesis.evaluate import evaluate, means
from lab.synthesis.infer import synthesise
from lab.synthesis.rivals import Rival, copy_channel, fit_linear, linear
from lab.track import runs
from lab.track.package import load_network
from lab.track.plan import Plan
from lab.track.store import connect
from lab.track.trial import tile

TESTED = "test_patients.csv"
CURVES = ("train/loss", "val/loss", "val/mae_brain")


def finish(plan: Plan, started: float) -> None:
    """Score the finished trials and the rivals on the test patients, write the report, say where it is."""
    from lab.track.handover import hand_over

    use_threads(1)
    arithmetic = choose(plan.config.train.device, plan.config.train.precision, plan.config.train.channels_last)
    finished = reported(plan)
    if not finished:
        raise ValueError(
            "no trial has finished; the reasons are in the runs' `failure` tags. --study.retry-failed tries again"
        )
    print(f"Scoring {len(finished)} networks and 2 rivals on the test patients", flush=True)
    for run in finished:
        if run.data.tags.get("tested") != "yes":
            test_trial(plan, run, arithmetic)
    tables = [labelled(runs.read_table(run.info.run_id, TESTED), i, run) for i, run in enumerate(finished)]
    rivals = rival_tables(plan, "test")
    patients = pd.concat([*tables, *rivals.values()], ignore_index=True)
    hand_over(
        plan,
        patients=patients,
        trials=summary(finished),
        histories={i: curve(run) for i, run in enumerate(finished)},
        reference={name: float(table["mae_brain"].mean()) for name, table in rival_tables(plan, "val").items()},
        pictures=partial(synthetic_images, plan, finished, arithmetic),
        seconds=time.monotonic() - started,
    )


def reported(plan: Plan) -> list[Run]:
    """The finished trials of the grid, in its order, and the best one of the guided search."""
    finished = [run for run in runs.children(plan.study.name, plan.parent) if run.data.tags.get("state") == "finished"]
    found = {run.data.tags["slot"]: run for run in finished}
    grid = [found[slot] for slot in plan.study.grid if slot in found]
    searched = [run for run in finished if run.data.tags["phase"] == "search"]
    sign = -1 if "ssim" in plan.config.study.objective else 1
    best = sorted(searched, key=lambda run: sign * run.data.metrics[plan.config.study.objective])
    return grid + best[:1]


def test_trial(plan: Plan, run: Run, arithmetic: Arithmetic) -> None:
    """Score one network on the test patients and log it to its run."""
    predict = predictor(plan, run, arithmetic)
    table = evaluate(predict, store(plan, "test", arithmetic=arithmetic))
    runs.log_table(run.info.run_id, table, TESTED)
    if not runs.logged_steps(run.info.run_id, "test/mae_image"):  # killed right here: do not log twice
        runs.log_metrics(run.info.run_id, means(table, "test"))
    connect().set_tag(run.info.run_id, "tested", "yes")


def predictor(plan: Plan, run: Run, arithmetic: Arithmetic) -> Rival:
    """The network of a run as a function of a batch."""
    network, _ = load_network(run.data.tags["model_uri"])
    placed = arithmetic.place(network)
    window = tile(trial_settings(plan.config, run), plan.cohort)
    return lambda batch: synthesise(
        placed, batch.inputs, brain=batch.masks["brain"], arithmetic=arithmetic, window=window
    )


def trial_settings(config: Config, run: Run) -> Config:
    """The config of a run as far as inference needs it: its patch size."""
    text = run.data.params.get("train.patch_mm", "None")
    return override(config, {"train.patch_mm": None if text == "None" else float(text)})


def store(plan: Plan, part: str, *, arithmetic: Arithmetic, inputs: tuple[str, ...] | None = None) -> CaseStore:
    """Whole volumes of one part of the split."""
    cases = plan.split.loc[plan.split["split"] == part, "case_id"].tolist()
    data = plan.config.data
    return CaseStore(
        plan.cohort, cases, inputs=inputs or data.inputs, target=data.target, device=arithmetic.device, resident=False
    )


def rivals(plan: Plan) -> dict[str, tuple[tuple[str, ...], Rival]]:
    """Name of each trivial rival, the inputs it takes, and what it does."""
    data = plan.config.data
    train = plan.split.loc[plan.split["split"] == "train", "case_id"].tolist()
    weights = fit_linear(plan.cohort, train, inputs=data.inputs, target=data.target)
    return {"copy T1": (("T1",), copy_channel(0)), "linear regression": (data.inputs, linear(weights))}


def rival_tables(plan: Plan, part: str) -> dict[str, pd.DataFrame]:
    """The rivals' figures of every patient of one part, in the long table's columns."""
    cpu = choose("cpu", "float32", False)
    tables = {}
    for name, (inputs, rival) in rivals(plan).items():
        table = evaluate(rival, store(plan, part, arithmetic=cpu, inputs=inputs))
        tables[name] = table.assign(trial=name, label=name, model=None, loss=None)
    return tables


def labelled(table: pd.DataFrame, number: int, run: Run) -> pd.DataFrame:
    """A trial's per-patient table with the columns that tell it from others."""
    return table.assign(trial=number, label=run.data.tags["label"], model=model(run), loss=run.data.params["loss.name"])


def model(run: Run) -> str:
    """What a trial's network is called in figures: its model's number, or the search trial that it is."""
    tags = run.data.tags
    return tags["label"] if tags.get("phase") == "search" else run.data.params["model.id"]


def summary(finished: list[Run]) -> pd.DataFrame:
    """One row a trial: settings, cost, how it ended."""
    rows: list[dict[str, Any]] = []
    for number, run in enumerate(finished):
        cost = {k.removeprefix("cost/"): v for k, v in run.data.metrics.items() if k.startswith("cost/")}
        validation = {k: v for k, v in run.data.metrics.items() if k.startswith("val/") and k != "val/loss"}
        params, tags = run.data.params, run.data.tags
        row = {"trial": number, "label": tags["label"], "model": model(run), "loss": params["loss.name"]}
        row |= {"phase": tags.get("phase", "grid"), "base": f"model {params['model.id']}, {params['loss.name']}"}
        state = "stopped early" if tags.get("stopped_early") == "True" else "finished"
        row |= {"state": state, "run_id": run.info.run_id}
        rows.append(row | cost | validation)
    return pd.DataFrame(rows)


def curve(run: Run) -> pd.DataFrame:
    """Learning curves of a run, without the last step that holds the kept network's figures."""
    return runs.history(run.info.run_id, CURVES).dropna(subset=["train/loss"])


def synthetic_images(
    plan: Plan, finished: list[Run], arithmetic: Arithmetic, case_ids: list[str]
) -> Mapping[str, dict[str, np.ndarray]]:
    """Case id -> label -> synthetic image (X, Y, Z), of the rivals and then of every network."""

    def images(rival: Rival, cases: CaseStore) -> dict[str, np.ndarray]:
        return {case: rival(one(cases, case))[0, 0].float().cpu().numpy() for case in case_ids}

    pictures: dict[str, dict[str, np.ndarray]] = {case: {} for case in case_ids}
    for run in finished:
        found = images(predictor(plan, run, arithmetic), store(plan, "test", arithmetic=arithmetic))
        for case, image in found.items():
            pictures[case][run.data.tags["label"]] = image
    cpu = choose("cpu", "float32", False)
    for name, (inputs, rival) in rivals(plan).items():
        for case, image in images(rival, store(plan, "test", arithmetic=cpu, inputs=inputs)).items():
            pictures[case][name] = image
    return pictures


def one(cases: CaseStore, case_id: str) -> Batch:
    """A single case as a batch."""
    return cases.batch([cases.case_ids.index(case_id)])

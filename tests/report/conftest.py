from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lab.evaluation.figures import ERRORS
from lab.report.tables.paired_tests import paired_tests

CASES = [f"case-{number:02d}" for number in range(8)]
WITHOUT_TUMOUR = CASES[3]


@pytest.fixture(scope="session")
def patients() -> pd.DataFrame:
    """Long table of 4 trials and 2 rivals on 8 patients; patient 3 has no tumour; SSIM nets have half the error."""
    rng = np.random.default_rng(5)
    rows = []
    trials = [
        (number, model, loss) for number, (loss, model) in enumerate((ls, m) for ls in ("L1", "SSIM") for m in (0, 3))
    ]
    named = [(number, f"model {model}, {loss}", model, loss) for number, model, loss in trials]
    for trial, label, model, loss in [*named, *((name, name, None, None) for name in ("copy T1", "linear regression"))]:
        for case in CASES:
            scale = 1.0 if trial == "copy T1" else 0.5 if loss == "SSIM" else 0.8
            row = {"trial": trial, "label": label, "model": model, "loss": loss, "case_id": case}
            row["enhancing"] = int(case[-1]) % 2
            for column in ERRORS:
                wrong = 0.1 * scale * (1 + 0.2 * rng.random())
                row[column] = 1 - wrong if column.startswith("ssim") else wrong
                if case == WITHOUT_TUMOUR and column.endswith("tumour"):
                    row[column] = np.nan
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def trials(patients) -> pd.DataFrame:
    """Summary table of the four trials: one stopped early, one pruned."""
    table = patients[patients["model"].notna()].drop_duplicates("trial")[["trial", "label", "model", "loss"]]
    return table.assign(
        parameters=[1e6, 2e6, 1e6, 3e6],
        train_seconds=[10.0, 25.0, 12.0, 40.0],
        peak_memory_mb=[500.0, 700.0, 510.0, 900.0],
        epochs=[6, 6, 4, 3],
        best_epoch=[5, 6, 2, 3],
        state=["finished", "finished", "stopped", "TrialState.PRUNED"],
    ).reset_index(drop=True)


@pytest.fixture(scope="session")
def histories(trials) -> dict[int, pd.DataFrame]:
    """Training history of each trial."""
    found = {}
    for _, trial in trials.iterrows():
        epoch = np.arange(1, trial["epochs"] + 1)
        found[trial["trial"]] = pd.DataFrame(
            {"epoch": epoch, "train/loss": 1 / epoch, "val/loss": 1.1 / epoch, "val/mae_brain": 0.1 + 0.2 / epoch}
        )
    return found


@pytest.fixture(scope="session")
def head() -> SimpleNamespace:
    """A ball of a brain (24, 28, 20) with an enhancing cube of 4 voxels on the patient's right, at z = 12 to 15."""
    shape = (24, 28, 20)
    x, y, z = np.indices(shape)
    brain = (x - 11.5) ** 2 / 100 + (y - 13.5) ** 2 / 144 + (z - 10) ** 2 / 81 < 1
    tumour, core = np.zeros(shape, bool), np.zeros(shape, bool)
    tumour[14:20, 8:16, 11:17] = True
    core[15:19, 10:14, 12:16] = True
    t1 = np.where(brain, 0.1 * np.sin(x / 3.0), -1).astype(np.float32)
    truth = t1 + 0.6 * (core & brain)
    return SimpleNamespace(shape=shape, brain=brain, tumour=tumour & brain, core=core & brain, t1=t1, truth=truth)


@pytest.fixture(scope="session")
def tests(patients) -> pd.DataFrame:
    """Paired tests against the best network (trial 2) and both rivals."""
    return paired_tests(patients, against=[2, "copy T1", "linear regression"])

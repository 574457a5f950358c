"""Small studies on the tiny cohort for tests within this process: a second or two a trial."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from watching import ARCHITECTURE, Seen, look

from lab.cli.study_command import base_config, settings_for
from lab.config import Config, DataConfig, ModelConfig, StudyConfig, TrainConfig, override
from lab.data.cohort import Cohort
from lab.experiments.plan import Plan, Study
from lab.experiments.synthesis.study import run_synthesis_study
from lab.tracking.store import RUNS


def settings(cohort: Cohort, **changes: Any) -> Config:
    """Two epochs of a network of two filters; `changes` by dotted name with `__` for the dot."""
    config = Config(
        data=DataConfig(path=cohort.path),
        model=ModelConfig(width=2, depth=2),
        train=TrainConfig(epochs=2, batch_size=4, flip="none", learning_rate=2e-3, device="cpu"),
        study=StudyConfig(workers=1),
    )
    return override(config, {name.replace("__", "."): value for name, value in changes.items()})


def grid_study(name: str, grid: Mapping[str, Mapping[str, Any]], search: Any = None) -> Study:
    """A study with a question."""
    return Study(name=name, question="Does it hold?", grid=dict(grid), search=search)


TWO = {"one": {"loss.name": "L1_brain"}, "two": {"loss.name": "L2_brain"}}


def ran(
    name: str, config: Config, grid: Mapping[str, Mapping[str, Any]] = TWO, search: Any = None
) -> tuple[Plan, Seen]:
    """Run a study in this process; its plan and what the store holds of it."""
    plan = run_synthesis_study(grid_study(name, grid, search), config)
    return plan, look(RUNS, name)


def architecture(name: str, words: Sequence[str]) -> Seen:
    """The architecture study with a command's words, in this process and under another name."""
    spec = spec_from_file_location("architecture_study", ARCHITECTURE)
    assert spec is not None
    assert spec.loader is not None
    script = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(script)
    chosen = settings_for(script.Architecture, list(words), varied={})
    study = Study(name=name, question="", grid=script.grid(chosen), search=script.search)
    run_synthesis_study(study, base_config(chosen))
    return look(RUNS, name)

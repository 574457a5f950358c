"""Python imports this file at its start where PYTHONPATH names its folder: studies that tests start as processes.

They inject no faults at the end of a study, draw few bootstrap samples, fit few trees, render no figures, do not wait
for the disk and do not have MLflow try the models that it logs, as in tests that run within pytest; see conftest.py.
Nor do they import PyTorch's compiler, which compiles nothing here.
"""

import functools
import sys
from importlib.util import find_spec
from types import ModuleType


def no_faults(module):
    assert module.FAULT_CASES > 0
    module.FAULT_CASES = 0


def no_trial(module):
    module._validate_serving_input = lambda *_, **__: None


def few_draws(module):
    assert module.RESAMPLES > 50
    module.RESAMPLES = 50


def few_trees(module):
    assert module.TREES["max_iter"] > 5
    module.TREES["max_iter"] = 5


def unchecked(module):
    module._check_requirement_satisfied = lambda _: None


def versions_kept(module):
    module.version = functools.cache(module.version)


def no_waiting(module):
    import sqlite3

    @module.event.listens_for(module.Engine, "connect")
    def write_without_waiting(connection, _):
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")


def no_compiler(module):
    stub = sys.modules["torch._dynamo"] = module._dynamo = ModuleType("torch._dynamo")
    stub.disable = lambda function, *_, **__: function
    stub.graph_break = lambda: None


def no_slices(module):
    module.trial_slices = module.slice_figure = lambda *_, **__: module.Figure()


def no_drawing(module):
    def blank(figure, file, **_):
        if hasattr(file, "write"):
            file.write(b"blank")
        else:
            with open(file, "wb") as image:
                image.write(b"blank")

    module.Figure.savefig = blank


CHANGES = {
    "importlib_metadata": versions_kept,
    "lab.evaluation.conformal": few_draws,
    "lab.evaluation.fault_injection": no_faults,
    "lab.report.figures.sheets": no_slices,
    "lab.synthesis.boosting": few_trees,
    "matplotlib.figure": no_drawing,
    "mlflow.models.utils": no_trial,
    "mlflow.utils.requirements_utils": unchecked,
    "sqlalchemy": no_waiting,
    "torch": no_compiler,
}


class Changed:
    """Changes a module right after its import, and imports nothing that would not be imported anyway."""

    def find_spec(self, name, path=None, target=None):
        if name not in CHANGES:
            return None
        sys.meta_path.remove(self)
        try:
            spec = find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            CHANGES[name](module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Changed())

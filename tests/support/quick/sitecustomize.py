"""Python imports this file at its start where PYTHONPATH names its folder: studies that tests start as processes.

They inject no faults at the end of a study and render no figures, as in tests that run within pytest; see conftest.py.
"""

import sys
from importlib.util import find_spec


def no_faults(module):
    assert module.FAULT_CASES > 0
    module.FAULT_CASES = 0


def no_drawing(module):
    def blank(figure, file, **_):
        if hasattr(file, "write"):
            file.write(b"blank")
        else:
            with open(file, "wb") as image:
                image.write(b"blank")

    module.Figure.savefig = blank


CHANGES = {"lab.inference.calibrate": no_faults, "matplotlib.figure": no_drawing}


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

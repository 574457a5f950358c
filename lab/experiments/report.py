"""Which report a run gets: that of networks, or that of classifiers."""

from __future__ import annotations

from pathlib import Path

from lab.tracking import artifacts
from lab.tracking.run import Run
from lab.tracking.store import read_only


def write_any_report(parent: Run, *, out: Path | None = None) -> None:
    """Write the report of a finished study of either arm to its run, and to the folder `out`.

    Where the store can only be read the folder alone gets it. Raises ValueError for a run that is no study that has
    come to its end, and where the report could be left nowhere.
    """
    if read_only() and out is None:
        raise ValueError("the tracking store can only be read: name a folder for the report with --out")
    if parent.has_file(artifacts.CLASSIFIER):
        from lab.experiments.radiomics.report import write_classifier_report

        write_classifier_report(parent, out=out)
    else:
        from lab.experiments.synthesis.report import write_report

        write_report(parent, out=out)

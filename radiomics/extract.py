"""Radiomic features of the tumour on T1, T2 and FLAIR, as a table.

    python radiomics/extract.py                            the embedded phantom, two minutes on 2 cores
    python radiomics/extract.py --data PATH                EGD, BraTS, a CSV of paths or a prepared cohort
    python radiomics/extract.py --data PATH --stability    and which features survive another outline of the tumour
    python radiomics/extract.py --image A --mask B         one image and one mask as they are, pyradiomics' names

Features: shape, first order and textures (GLCM, GLRLM, GLSZM, GLDM, NGTDM) of the original, LoG-filtered and wavelet
          images, by pyradiomics with the settings of lab/radiomics/features/features.yaml; never from a contrast scan

Written:  a row per case, a column per feature; cases left out, with the reason; with --stability, ICC(3,1) of every
          feature

Again:    the same command continues where it was stopped, and computes nothing twice
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from lab.cli.study_command import exit_code_of
from lab.config import DEMO, DataConfig, MeasureConfig, PhantomConfig

if TYPE_CHECKING:
    import pandas as pd

STABLE = 0.75
"""Lower limit of good reliability (Koo & Li, J Chiropr Med 2016)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extract:
    """Radiomic features of the tumour on T1, T2 and FLAIR, as a table."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    phantom: PhantomConfig = dataclasses.field(default_factory=PhantomConfig)
    radiomics: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)
    image: Path | None = None
    """One image (NIfTI, NRRD, MetaImage), measured on its own grid without any preparation."""
    mask: Path | None = None
    """Its mask on the same grid: all values above 0, or the `label` of the parameter file where that is not 1."""
    out: Path | None = None
    """CSV of the features; by default in mlruns/features (or below LAB_RUNS), named after the cohort."""
    stability: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Measure with five changed masks too, and write the ICC of every feature: six times the work."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, or continue; a user error gives one line on stderr and exit code 2."""
    settings = tyro.cli(Extract, args=arguments, description=__doc__)
    return exit_code_of(lambda: run(settings), unit="case")


def run(settings: Extract) -> None:
    """Measure with progress messages, and print what was written where."""
    data = settings.data
    if settings.image is not None or settings.mask is not None:
        run_pair(settings)
        return
    if data.path is None and data.spacing_mm is None:
        data = dataclasses.replace(data, spacing_mm=DEMO.data.spacing_mm)
    elif data.path is not None and settings.phantom != PhantomConfig():
        raise ValueError("--phantom settings do nothing with --data; leave one of the two out")
    if settings.out is not None:
        check_writable(settings.out, stability=settings.stability)

    import pandas as pd  # late, so that --help answers at once

    from lab.io.files import plural
    from lab.radiomics.features.cohort_features import measure_cohort, refuse_contrast, refuse_enhanced
    from lab.radiomics.features.image_features import PARAMETERS, load_extractor
    from lab.radiomics.features.stability import measure_perturbed, stability

    refuse_contrast(data.inputs, data.target)
    parameters = settings.radiomics.parameters or PARAMETERS
    load_extractor(parameters)  # parameter errors are reported before the phantom is made

    from lab.data.source import Ticker, obtain
    from lab.radiomics.labels import without_missing_target
    from lab.tracking.store import RUNS

    cohort = obtain(without_missing_target(data), settings.phantom, RUNS)
    refuse_enhanced(cohort, data.inputs, None if settings.radiomics.contrast == "refuse" else print)
    cache = RUNS / "features" / "cache"
    how: dict[str, Any] = {"parameters": parameters, "processes": data.processes}
    found = measure_cohort(cohort, data.inputs, cache, **how, progress=Ticker("cases measured", print))
    cases, features = found.table.shape
    measured = plural(cases, "phantom " * cohort.phantom + "case")
    print(f"{plural(features, 'feature')} of {measured}, {len(found.left_out)} left out")
    out = settings.out or RUNS / "features" / f"{'phantom-' * cohort.phantom}{cohort.path.name}.csv"
    reasons = pd.DataFrame(sorted(found.left_out.items()), columns=["case_id", "reason"])
    write({out: found.table.reset_index(), beside(out, "left_out"): reasons})
    if settings.stability:
        progress = Ticker("masks measured", print)
        table = stability(measure_perturbed(cohort, data.inputs, cache, **how, progress=progress))
        print(f"{(table['low'] > STABLE).sum()} of {features} features: 95 % interval of the ICC above {STABLE}")
        write({beside(out, "stability"): table})


def run_pair(settings: Extract) -> None:
    """Measure one image inside one mask, and write a table of one row that others can be put below."""
    image, mask = settings.image, settings.mask
    if image is None or mask is None:
        raise ValueError("--image and --mask belong together: name both")
    if settings.data != DataConfig() or settings.phantom != PhantomConfig() or settings.stability:
        raise ValueError("--image and --mask are measured as they are; leave --data, --phantom and --stability out")

    import pandas as pd  # late, so that --help answers at once

    from lab.radiomics.features.image_features import PARAMETERS, load_extractor, measure_files
    from lab.tracking.store import RUNS

    name = image.name.partition(".")[0]
    out = settings.out or RUNS / "features" / f"{name}.csv"
    check_writable(out, stability=False)
    features = measure_files(image, mask, load_extractor(settings.radiomics.parameters or PARAMETERS))
    write({out: pd.DataFrame([{"case_id": name, **features}])})


def check_writable(path: Path, *, stability: bool) -> None:
    """Raises an OSError, or ValueError for foreign files in the place, before the measurement starts."""
    from lab.io.output_folder import check_output

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise PermissionError(f"--out {path}: no file can be written there")
    files = [path, beside(path, "left_out"), *([beside(path, "stability")] if stability else [])]
    check_output(path.parent, *(file.name for file in files))


def beside(path: Path, what: str) -> Path:
    """Path of a further CSV beside that of the features."""
    return path.with_name(f"{path.stem}_{what}.csv")


def write(tables: dict[Path, pd.DataFrame]) -> None:
    """Replace the CSVs of an earlier call, all at once, and print their paths."""
    from lab.io.case_file import write_atomically
    from lab.io.files import plural
    from lab.io.output_folder import output_folder

    first = next(iter(tables))
    with output_folder(first.parent, output=f"features {first.name}", last=first.name, say=None) as folder:
        for path, table in tables.items():
            write_atomically(folder / path.name, table.to_csv(index=False).encode())
    for path, table in tables.items():
        print(f"{path}: {plural(len(table), 'row')}")


if __name__ == "__main__":
    sys.exit(main())

"""One process of the fuzz test, `python tests/support/fuzzing.py FOLDER GROUP...`: damages files, tells what was taken.

Every damaged file goes through the functions that the commands use. It has to be refused by a ValueError or OSError
that names it, or to give exactly what the whole file gives. A case has 20 s, the process 2 GiB beyond its libraries.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import mutations
import numpy as np

from lab.data.prepare_worker import VERSION

LONGEST_S, MEMORY, LONGEST_MESSAGE = 20, 2 * 2**30, 4000
Check = Callable[[Any], bool]


class Hung(BaseException):
    """A case took too long."""


@contextmanager
def limited() -> Iterator[None]:
    """At most `LONGEST_S` for what is done inside."""

    def stop(*_: object) -> None:
        raise Hung

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)


class Fuzz:
    """Counts what became of damaged files, and keeps what should not be."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.failures: list[str] = []

    def try_all(
        self,
        path: Path,
        changes: Iterable[mutations.Mutation],
        drive: Callable[[], Any],
        *,
        names: tuple[str, ...] = (),
        right: Check | None = None,
    ) -> None:
        """Give `path` each content in turn, and see what `drive` does; `right` judges what it returns.

        An error must hold the file's name, or one of `names`.
        """
        whole = path.read_bytes()
        expected = drive()
        accept = right or (lambda found: bool(found == expected))
        for what, content in changes:
            path.write_bytes(content)
            case = f"{path.name}: {what}"
            try:
                with limited():
                    self.seen["whole" if accept(drive()) else self.fail(case, "ALTERED, and taken")] += 1
            except (ValueError, OSError) as error:
                told = str(error)
                named = any(name in told for name in (path.name, *names))
                if not named or "Traceback" in told or len(told) > LONGEST_MESSAGE:
                    self.fail(case, f"no fair message: {told:.300}")
                self.seen["refused"] += 1
            except Hung:
                self.fail(case, f"longer than {LONGEST_S} s")
            except Exception:
                self.fail(case, traceback.format_exc(limit=-4))
        path.write_bytes(whole)

    def fail(self, case: str, reason: str) -> str:
        self.failures.append(f"{case}: {reason}")
        return "failed"


def scans(fuzz: Fuzz, folder: Path) -> None:
    """NIfTI files of one patient, each as `prepare` reads it."""
    from scan_trees import BRATS_2023, brats_tree

    from lab.config import DataConfig
    from lab.data.layouts.find import find_subjects
    from lab.data.prepare import _recipe
    from lab.data.prepare_worker import PrepareJob

    rng = np.random.default_rng(1)
    subjects = find_subjects(brats_tree(folder / "scans", enhancing=1, others=0))
    job = PrepareJob(subject=subjects[0], recipe=_recipe(subjects, DataConfig(spacing_mm=8.0)), out=folder / "prepared")
    for name in ("cases", "left_out"):
        (job.out / name).mkdir(parents=True)

    def drive() -> str:
        row = job.run()["row"]
        if row["status"] != "used":
            raise ValueError(row["reason"])
        return str(row["sha256"])

    for name, count in (("T1", 30), ("T1GD", 10), ("MASK", 20)):
        path = folder / "scans" / job.subject.case_id / f"{job.subject.case_id}{BRATS_2023[name]}.nii.gz"
        content = path.read_bytes()
        fields = list(mutations.headers(content))
        chosen = [fields[i] for i in sorted(rng.choice(len(fields), count, replace=False))]
        names = (name, "tumour mask") if name == "MASK" else (name, "T2", "FLAIR")  # told by what it does not fit
        fuzz.try_all(path, chosen, drive, names=names)
        fuzz.try_all(path, islice(mutations.bytewise(content, rng, 8), 8), drive, names=names)


def lists(fuzz: Fuzz, folder: Path) -> None:
    """A CSV of scans and EGD's metadata, as `find_subjects` reads them."""
    from scan_trees import BRATS_2023, brats_tree

    from lab.data.layouts.find import Subject, find_subjects

    rng = np.random.default_rng(2)
    brats_tree(folder / "listed", enhancing=2, others=1)
    rows = ["case_id,T1,T2,FLAIR,T1GD,MASK,enhancing_label,age,grade"]
    for case in sorted((folder / "listed").iterdir()):
        cells = (f"listed/{case.name}/{case.name}{suffix}.nii.gz" for suffix in BRATS_2023.values())
        t1, gd, t2, flair, mask = cells
        rows.append(f"{case.name},{t1},{t2},{flair},{gd},{mask},3,61.5,4")
    path = folder / "scans.csv"
    path.write_text("\n".join(rows) + "\n")

    def told(subject: Subject) -> dict[str, Any]:
        return {name: getattr(subject, name) for name in ("images", "mask", "enhancing_label", "patient_id", *KNOWN)}

    whole = {subject.case_id: told(subject) for subject in find_subjects(path)}

    def right(found: list[Subject]) -> bool:
        """Whose files are there is as in the whole table, or less is known; others are left out later."""
        there = [one for one in found if one.mask and all(p.is_file() for p in (*one.images.values(), one.mask))]
        there = [one for one in there if len(one.images) == 4]
        return all(
            one.case_id in whole and all(value in (whole[one.case_id][name], None) for name, value in told(one).items())
            for one in there
        )

    content = path.read_bytes()
    fuzz.try_all(path, mutations.tables(content), lambda: find_subjects(path), right=right)
    fuzz.try_all(path, mutations.texts(content), lambda: find_subjects(path), right=right)
    anything: Check = lambda found: True  # noqa: E731 - another letter is another path or age: no one can know
    names = tuple(whole)
    fuzz.try_all(path, mutations.bytewise(content, rng, 20), lambda: find_subjects(path), right=anything, names=names)

    place = folder / "egd" / "EGD-0001"
    place.mkdir(parents=True)
    for name in ("T1", "T2", "FLAIR", "T1GD", "MASK"):
        (place / f"{name}.nii.gz").write_bytes(b"")
    metadata = place / "metadata.json"
    metadata.write_text(json.dumps(METADATA))

    def known() -> dict[str, Any]:
        (subject,) = find_subjects(folder / "egd")
        return {name: getattr(subject, name) for name in KNOWN}

    full = known()
    content = metadata.read_bytes()
    less: Check = lambda found: all(value in (full[name], None) for name, value in found.items())  # noqa: E731
    fuzz.try_all(metadata, mutations.jsons(content, rng, 40), known, right=less)
    fuzz.try_all(metadata, mutations.texts(content), known, right=less)


KNOWN = ("grade", "age", "idh", "codeletion", "vendor", "field_strength_t")
METADATA = {
    "Genetic_and_Histological_labels": {"Grade": 4, "IDH": 1, "1p19q": 0},
    "Clinical_data": {"Age": 61.5, "Sex": "F"},
    "Scan_characteristics": {"Manufacturer": "Siemens", "Field": 1.5},
}


def cohort(fuzz: Fuzz, folder: Path) -> None:
    """Files of a prepared cohort, as a study opens it."""
    from scan_trees import brats_tree

    from lab.config import DataConfig
    from lab.data.cohort import open_cohort
    from lab.data.prepare import prepare
    from lab.io.case_file import content_digest

    rng = np.random.default_rng(3)
    place = folder / "cohort"
    prepare(brats_tree(folder / "trees", enhancing=2, others=1), place, DataConfig(spacing_mm=8.0), processes=1)

    def drive() -> Any:
        found = open_cohort(place)
        voxels = [content_digest(*found.load(case_id)) for case_id in found.index.index]
        return found.digest, found.index.to_csv(), found.manifest, voxels

    one, other, _ = sorted((place / "cases").iterdir())
    content = one.read_bytes()
    swapped = [("the other's", other.read_bytes())]
    for changes in (mutations.safetensors(content), mutations.bytewise(content, rng, 20), swapped):
        fuzz.try_all(one, changes, drive)
    for name in ("index.csv", "split.csv"):
        content = (place / name).read_bytes()
        for changes in (mutations.tables(content), mutations.texts(content), mutations.bytewise(content, rng, 10)):
            fuzz.try_all(place / name, changes, drive)
    manifest = place / "manifest.json"
    content = manifest.read_bytes()
    for changes in (mutations.jsons(content, rng, 30), mutations.texts(content), mutations.bytewise(content, rng, 10)):
        fuzz.try_all(manifest, changes, drive, names=(str(place),))


def models(fuzz: Fuzz, folder: Path) -> None:
    """Files of a network's and a classifier's package and a checkpoint, as they are opened to be used."""
    import torch
    from learnable import make_dataset, random_search
    from safetensors.torch import save_file

    from lab.config import ClassifierConfig, ModelConfig
    from lab.io.case_file import file_sha256
    from lab.io.sealed_json import seal
    from lab.radiomics.features.image_features import PARAMETERS
    from lab.radiomics.pipeline.final import fit_final
    from lab.synthesis.checkpoint import load_checkpoint, save_checkpoint
    from lab.synthesis.networks.paper import build
    from lab.tracking.models.classifier import classifier_in
    from lab.tracking.models.verify import package_in

    limit_memory()
    rng = np.random.default_rng(4)
    uri, files, place = "models:/fuzz@champion", folder / "network" / "artifacts", folder / "classifier"
    files.mkdir(parents=True)
    weights, settings, calibration = (
        files / name for name in ("weights.safetensors", "network.json", "calibration.json")
    )
    save_file(build(0, width=2, depth=2, seed=0).state_dict(), weights)
    model = dataclasses.asdict(ModelConfig(id=0, width=2, depth=2))
    settings.write_text(
        json.dumps(seal({"model": model, **CONTRACT, "weights_sha256": file_sha256(weights)}), indent=2)
    )
    calibration.write_text(json.dumps(seal({"intervals": {"level": 0.9, "widths": [0.1, 0.2]}}), indent=2))

    def network() -> Any:
        package = package_in(folder / "network", uri)
        return package.known, package.calibration, package.weights_sha256

    content = weights.read_bytes()
    fuzz.try_all(weights, mutations.safetensors(content), network)
    fuzz.try_all(weights, mutations.bytewise(content, rng, 20), network)
    for path, count in ((settings, 30), (calibration, 20)):
        content = path.read_bytes()
        for changes in (mutations.jsons(content, rng, count), mutations.texts(content)):
            fuzz.try_all(path, changes, network)
        fuzz.try_all(path, mutations.bytewise(content, rng, 15), network)

    data = make_dataset(patients=40, features=6)
    how = ClassifierConfig(classifiers=("logistic",), trials=1, inner_folds=2, stability=0, seed=1)
    fit_final(data, how, random_search, parameters=PARAMETERS, refits=2).save(place)
    (place / "contract.json").write_text(json.dumps(seal(CONTRACT)))
    (place / "features.yaml").write_bytes(PARAMETERS.read_bytes())

    def classifier() -> Any:
        final, contract, features = classifier_in(place, uri)
        return final.facts, contract, features, final.predict(data.features.head(3)).to_csv()

    for name, count in (("final.json", 20), ("contract.json", 15)):
        content = (place / name).read_bytes()
        for changes in (mutations.jsons(content, rng, count), mutations.texts(content)):
            fuzz.try_all(place / name, changes, classifier)
    for name in ("model.skops", "features.yaml"):
        fuzz.try_all(place / name, mutations.bytewise((place / name).read_bytes(), rng, 8), classifier)

    path = folder / "checkpoint"
    save_checkpoint(path, {"lr": 0.1}, {"epoch": 3, "weights": torch.arange(999.0), "history": [{"loss": 0.5}]})

    def resume() -> Any:
        state = load_checkpoint(path, {"lr": 0.1})
        return state["epoch"], state["weights"].tolist(), state["history"]

    fuzz.try_all(path, mutations.bytewise(path.read_bytes(), rng, 40), resume)


CONTRACT = {
    "inputs": ["T1", "T2", "FLAIR"],
    "target": "T1GD",
    "spacing_mm": 4.0,
    "shape": [40, 48, 40],
    "preparation": {"brain_mask": "auto", "clip_sigma": 4.0, "enhancement_threshold": 0.3, "enhancing_ml": 0.5},
    "layout": "brats2023",
    "preparation_version": VERSION,
    "cohort_digest": "c0" * 16,
    "phantom": False,
}
GROUPS = {"scans": scans, "lists": lists, "cohort": cohort, "models": models}


def limit_memory() -> None:
    """Address space for 2 GiB more than is taken now."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    fuzz = Fuzz()
    import lab.data.prepare  # noqa: F401 - the libraries' memory does not count

    limit_memory()
    for group in sys.argv[2:]:
        place = Path(sys.argv[1]) / group
        place.mkdir()
        GROUPS[group](fuzz, place)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seen": fuzz.seen, "failures": fuzz.failures, "peak": peak}))


if __name__ == "__main__":
    main()

"""A registered or logged network as a MONAI bundle: a self-contained folder for `python -m monai.bundle run`.

configs/metadata.json    the network, its inputs and outputs, by MONAI's specification
configs/inference.json   the workflow: preparation, inference, resampling to the T1's grid
models/                  weights as safetensors, the frozen preparation, the calibration: no pickle
docs/                    README.md and license.txt
lab/                     the code that it runs, see lab.deploy.export.bundle_run
"""

from __future__ import annotations

import json
import math
import platform
import shutil
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template

import lab
from lab.data.contract import NOT_STRIPPED
from lab.deploy.export.bundle_run import CALIBRATION, SETTINGS, WEIGHTS
from lab.evaluation.calibration_text import coverage_at, describe_coverage
from lab.evaluation.conformal import NOMINAL
from lab.inference.load import Networks, open_networks
from lab.inference.settings import INTERVAL, PHANTOM_WARNING
from lab.io.case_file import file_sha256
from lab.io.files import canonical
from lab.io.output_folder import check_output, output_folder
from lab.synthesis.device import choose
from lab.synthesis.networks import clinical_inputs
from lab.tracking.models.network import NAME
from lab.tracking.models.registered import downloaded
from lab.tracking.run import Run

MARK = f"models/{SETTINGS}"
"""The file that every bundle has."""
CODE = (
    *("__init__.py", "config", "io", "stats", "qc", "data", "evaluation", "synthesis"),
    *("deploy/__init__.py", "deploy/export/__init__.py", "deploy/export/bundle_run.py"),
    *(f"inference/{name}.py" for name in ("__init__", "settings", "tiling", "tta", "calibration", "patient")),
)
"""Modules of `lab` that a bundle contains."""
NEEDED = ("einops", "nibabel", "pydicom", "safetensors", "scipy", "pandas", "nilearn", "tyro", "psutil", "filelock")
"""Packages that the bundle imports besides torch, monai and numpy."""
README = Path(__file__).with_name("bundle_readme.md.j2")
LICENSE = "Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"


def export_bundle(model: str, place: Path) -> dict[str, Any]:
    """Write the bundle of a model such as `models:/sct1@champion`; returns its metadata.

    An older bundle of this lab in that place is replaced; foreign files beside its own stay. Raises ValueError, before
    anything is written, for a model that is not from this lab, and where other files are in that place.
    """
    check_output(place, MARK, alone=True)
    networks = open_networks([model], choose("cpu", "float32"))
    about = networks.about[0]
    with output_folder(place, output="bundle", last=MARK, alone=True) as folder:
        for name in ("configs", "models", "docs"):
            (folder / name).mkdir()
        with downloaded(_exact(about)) as files:
            for name in (WEIGHTS, SETTINGS, CALIBRATION):
                if (files / "artifacts" / name).is_file():
                    shutil.copy(files / "artifacts" / name, folder / "models" / name)
        if file_sha256(folder / "models" / WEIGHTS) != about["weights_sha256"]:
            raise ValueError(f"{model} became another one while it was read; try again")
        _copy_code(folder)
        metadata = bundle_metadata(networks)
        for name, content in (("metadata", metadata), ("inference", workflow(networks))):
            (folder / "configs" / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (folder / "docs" / "README.md").write_text(_readme(metadata), encoding="utf-8")
        license_text = distribution(NAME).read_text("licenses/LICENSE") or LICENSE
        (folder / "docs" / "license.txt").write_text(license_text, encoding="utf-8")
    return metadata


def bundle_metadata(networks: Networks) -> dict[str, Any]:
    """The bundle's metadata."""
    about, contract = networks.about[0], networks.contract
    channels = {str(number): name for number, name in enumerate(contract.inputs)}
    synthetic, inputs = f"synthetic {contract.target}", ", ".join(contract.inputs)
    others = f"; all but the T1 by {contract.normalise['method']}" if contract.normalise else ""
    number = str(about.get("version", "0"))
    unknown = ", ".join(clinical_inputs(networks.networks))
    lacking = [f"predicted without {unknown}, which the model takes and a bundle cannot be given"] if unknown else []
    tensor: dict[str, Any] = {"type": "image", "format": "magnitude", "modality": "MR"}
    tensor |= {"spatial_shape": list(contract.shape)}
    tensor |= {"dtype": "float32", "value_range": [-1, 1], "is_patch_data": False}
    return read_template("metadata") | {
        "version": number,
        "changelog": {number: f"exported by {NAME} {version(NAME)}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in NEEDED},
        "python_version": platform.python_version(),
        "name": networks.name,
        "task": f"A {synthetic} from {inputs} of a brain with glioma",
        "description": f"A network that predicts a post-contrast T1 without contrast agent ({networks.name}).",
        "authors": f"who trained it with {NAME}",
        "data_source": f"cohort {contract.cohort_digest} ({'digital phantoms' if contract.phantom else 'patients'})",
        "image_classes": f"{inputs}: z-score over the brain, cut and scaled to -1 to 1{others}",
        "pred_classes": f"{synthetic}, on the scale of the prepared T1",
        "eval_metrics": _test_metrics(about.get("run_id")),
        "phantom": contract.phantom,
        "warnings": [PHANTOM_WARNING] * contract.phantom + lacking,
        "model": {key: about[key] for key in ("name", "version", "run_id") if key in about} | {"model": _exact(about)},
        "weights_sha256": about["weights_sha256"],
        "package_sha256": about["package_sha256"],
        "contract": contract.as_dict(),
        "intervals": _intervals(networks),
        "network_data_format": {
            "inputs": {"image": {**tensor, "num_channels": len(contract.inputs), "channel_def": channels}},
            "outputs": {"pred": {**tensor, "num_channels": 1, "channel_def": {"0": synthetic}}},
        },
    }


def workflow(networks: Networks) -> dict[str, Any]:
    """MONAI's workflow, with a setting per sequence and a few more, all of which the command line can override."""
    found, contract, patch = read_template("inference"), networks.contract, networks.patches[0]
    names = [canonical(name).lower() for name in contract.channels]
    scans = [f"'{name}': os.path.join(@dataset_dir, @{name}) if @{name} else None" for name in (*names, "mask")]
    found["dataset"]["data"] = f"$[{{{', '.join(scans)}}}]"
    found["network_def"] |= {"record": networks.about[0]["network"], "channels": len(contract.inputs)}
    if patch is not None and min(contract.shape) > patch:
        tile = {"roi_size": [min(patch, size) for size in contract.shape], "sw_batch_size": 1, "overlap": 0.5}
        blend = {"mode": "gaussian", "padding_mode": "constant", "cval": -1.0}
        found["inferer"] = {"_target_": "SlidingWindowInferer", **tile, **blend}
    return dict.fromkeys(names, "") | found


def read_template(name: str) -> dict[str, Any]:
    """The part of a configuration that is the same in all bundles."""
    return dict(json.loads(Path(__file__).with_name(f"bundle_{name}.json").read_text(encoding="utf-8")))


def _exact(about: dict[str, Any]) -> str:
    """URI that stays with this model when an alias moves on."""
    return f"models:/{about['name']}/{about['version']}" if "name" in about else str(about["model"])


def _intervals(networks: Networks) -> dict[str, str]:
    """Number of augmentations -> coverage of its intervals on test patients, in words; empty without intervals."""
    record = networks.calibrations[0] if networks.calibrations else {}
    return {looks: describe_coverage(coverage_at(record, int(looks))) for looks in record.get("intervals", {})}


def _test_metrics(run_id: str | None) -> dict[str, float]:
    """Metrics on the test patients, from the network's run."""
    if run_id is None:
        return {}
    metrics = Run(run_id).metrics
    found = {name.removeprefix("test/"): value for name, value in metrics.items() if name.startswith("test/")}
    return {name: value for name, value in sorted(found.items()) if math.isfinite(value)}  # JSON has no NaN


def _readme(metadata: dict[str, Any]) -> str:
    """Contents of `docs/README.md`."""
    needed = metadata["required_packages_version"] | {
        name: metadata[f"{long}_version"]
        for name, long in (("torch", "pytorch"), ("monai", "monai"), ("numpy", "numpy"))
    }
    stripped = metadata["contract"]["layout"] not in NOT_STRIPPED
    return Template(README.read_text(encoding="utf-8"), undefined=StrictUndefined, keep_trailing_newline=True).render(
        **metadata,
        packages=" ".join(f"{name}=={number}" for name, number in sorted(needed.items())),
        skull="are skull-stripped" if stripped else "have the skull and lie in MNI152 space",
        interval_file=INTERVAL,
        level=f"{NOMINAL:.0%}",
    )


def _copy_code(folder: Path) -> None:
    source = Path(lab.__file__).parent
    for name in CODE:
        target = folder / "lab" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source / name, target)

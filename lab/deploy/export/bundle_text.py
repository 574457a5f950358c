"""The page that a MONAI bundle carries: what it is for, what it is not for, and how to run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.data.contract import NOT_STRIPPED
from lab.evaluation.conformal import NOMINAL
from lab.report.tables.patient_table import plural

INTENDED = "Research on contrast-free imaging of glioma. Not for diagnosis, not for decisions about a patient."


def readme(metadata: Mapping[str, Any]) -> str:
    """`docs/README.md` of a bundle, from its metadata."""
    contract = metadata["contract"]
    names = [str(name).lower() for name in metadata["network_data_format"]["inputs"]["image"]["channel_def"].values()]
    flags = " ".join(f"--{name} {name.upper()}.nii.gz" for name in names)
    shape = " x ".join(str(size) for size in contract["shape"])
    needed = metadata["required_packages_version"] | {
        "torch": metadata["pytorch_version"],
        "monai": metadata["monai_version"],
        "numpy": metadata["numpy_version"],
    }
    packages = " ".join(f"{name}=={number}" for name, number in sorted(needed.items()))
    figures = "".join(f"| {name} | {value:.4g} |\n" for name, value in metadata["eval_metrics"].items())
    table = f"| on the test patients | |\n|---|---|\n{figures}" if figures else "Its figures did not come with it.\n"
    skull = "have the skull and lie in MNI152 space" if contract["layout"] in NOT_STRIPPED else "are skull-stripped"
    run = f", run {metadata['model']['run_id']}" if "run_id" in metadata["model"] else ""
    intervals = "".join(
        f"- with {plural(int(looks), 'look')}, {NOMINAL:.0%} intervals: {told}\n"
        for looks, told in metadata["intervals"].items()
    )
    promised = (
        f"`interval_{100 * NOMINAL:.0f}.nii.gz` is half of each voxel's interval:\n\n{intervals}" if intervals else ""
    )
    warnings = "".join(f"**{warning}**\n\n" for warning in metadata["warnings"])
    return f"""# {metadata["task"]}

{warnings}{metadata["intended_use"]}
What it draws is SYNTHETIC: enhancement may be invented and may be missing.

## Run it

In this folder, with Python {metadata["python_version"].rpartition(".")[0]}:

    pip install fire {packages}
    python -m monai.bundle run --config_file configs/inference.json \\
        {flags} --output_dir out

`out` then holds `synthetic_t1gd.nii.gz` on the grid and in the intensities of the T1, `enhancement.nii.gz` and
`report.json` with the warnings. Further settings: `--mask` (tumour mask; enhancement is then looked for in and near
it), `--looks 4` (an uncertainty map, in four times the time; the image stays the same), `--brain_mask nonzero|mni152`,
`--strangers warn` (draw scans that are refused as unlike those of training), `--device cpu`, `--precision float32`,
`--dataset_dir` (where relative paths begin).

As in training, the scans {skull}; they lie on one grid, whose orientation and voxel size are free. They are brought to
{shape} voxels of {contract["spacing_mm"]:g} mm, and what is drawn is brought back.

{promised}
## Where it comes from

{metadata["name"]} ({metadata["model"]["model"]}{run}), weights SHA-256 {metadata["weights_sha256"]}. It learned from
{metadata["data_source"]}.

{table}
## Licence

Of the code: Apache-2.0, `license.txt`. Of the weights: whoever trained them, under the terms of the data they were
trained on.
"""

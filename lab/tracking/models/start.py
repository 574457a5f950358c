"""Weights to start a training from, by the id of a run, by the name of a model, or from a file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from lab.io.case_file import file_sha256
from lab.io.sealed_json import read_sealed
from lab.synthesis.warm_start import Start
from lab.tracking.artifacts import Tag
from lab.tracking.models.network import SETTINGS
from lab.tracking.models.verify import load_verified
from lab.tracking.run import Run

FLAG = "--train.start-from"


def read_start(source: str) -> Start:
    """The weights of a finished run, of `models:/name@alias`, or of the safetensors file of a package or a bundle.

    Raises ValueError where there is none, or it is not whole; OSError where the model store cannot be reached.
    """
    if source.endswith(".safetensors") or Path(source).is_file():
        return read_weight_file(Path(source))
    if source.startswith("models:/"):
        uri = source
    else:
        run = Run.find(source)
        if run is None:
            raise ValueError(
                f"{FLAG} {source}: there is no such run; name the id of a finished run, a model such as "
                "models:/sct1@champion, or a .safetensors file"
            )
        if Tag.MODEL not in run.tags:
            raise ValueError(f"{FLAG} {source}: run {run.name} has no model; name one of its study's finished trials")
        uri = run.tags[Tag.MODEL]
    package, about = load_verified(uri)
    named = f"{about['name']} version {about['version']}, " if "name" in about else ""
    return Start(
        source=source,
        id=f"{named}run {about.get('run_id', 'unknown')}",
        sha256=package.weights_sha256,
        tensors=package.network.state_dict(),
        known=package.known,
    )


def read_weight_file(file: Path) -> Start:
    """Weights of a safetensors file; `network.json` beside it, where there is one, says what they belong to."""
    if not file.is_file():
        raise ValueError(f"{FLAG} {file}: there is no such file")
    digest, settings = file_sha256(file), file.with_name(SETTINGS)
    known = read_sealed(settings) if settings.is_file() else {}
    if known.get("weights_sha256", digest) != digest:
        raise ValueError(f"{FLAG} {file}: the weights were changed after {settings} was written; fetch both again")
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{FLAG} {file}: not a safetensors file ({error})") from None
    return Start(source=str(file), id=str(file), sha256=digest, tensors=tensors, known=known)

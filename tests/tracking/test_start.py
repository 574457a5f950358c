"""Weights to start a training from are found by run, by name and in files, and checked."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import torch
from patients import logged, named
from safetensors.torch import load_file

from lab.io.case_file import file_sha256
from lab.synthesis.networks.paper import build
from lab.tracking.models.network import WEIGHTS
from lab.tracking.models.start import read_start
from lab.tracking.run import Run
from lab.tracking.store import connect


@pytest.fixture(scope="module")
def uri() -> str:
    return logged("start-from")


@pytest.fixture
def folder(uri: str, tmp_path: Path) -> Path:
    """The package's files."""
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))) / "artifacts"


def test_run_name_and_file_give_the_same_weights(uri, folder):
    run_id = connect().get_logged_model(uri.removeprefix("models:/")).source_run_id
    connect().set_tag(run_id, "model_uri", uri)
    bare = folder.with_name("bare.safetensors")
    bare.write_bytes((folder / WEIGHTS).read_bytes())
    expected = build(0, width=2, depth=2, seed=3).state_dict()
    sources = {
        run_id: f"run {run_id}",
        uri: f"run {run_id}",
        named(uri, "started"): f"started version 1, run {run_id}",
        str(folder / WEIGHTS): str(folder / WEIGHTS),
        str(bare): str(bare),
    }
    for source, known_as in sources.items():
        start = read_start(source)
        assert (start.source, start.id, start.sha256) == (source, known_as, file_sha256(folder / WEIGHTS))
        assert start.tensors.keys() == expected.keys()
        assert all(torch.equal(start.tensors[name], tensor) for name, tensor in expected.items())
        assert (start.known.get("inputs") is None) == (source == str(bare))


def test_what_is_no_source_is_refused_with_what_to_name(folder, tmp_path):
    with pytest.raises(ValueError, match=r"--train.start-from 0123: there is no such run; name the id of a finished"):
        read_start("0123")
    with pytest.raises(ValueError, match=r"models:/nowhere@champion: there is no such model"):
        read_start("models:/nowhere@champion")
    with pytest.raises(ValueError, match=r"--train.start-from .*absent.safetensors: there is no such file"):
        read_start(str(tmp_path / "absent.safetensors"))
    empty = Run.open("start-from", "empty", identity={"slot": "empty"})
    with pytest.raises(ValueError, match=r"run empty has no model; name one of its study's finished trials"):
        read_start(empty.id)
    other = tmp_path / "other.txt"
    other.write_text("no weights")
    with pytest.raises(ValueError, match=r"other.txt: not a safetensors file"):
        read_start(str(other))
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    load_file(folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"the weights were changed after .*network.json was written"):
        read_start(str(folder / WEIGHTS))

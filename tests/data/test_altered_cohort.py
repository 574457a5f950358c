"""A prepared cohort is what `prepare` wrote, or it is refused with the name of the file that is not."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lab.config import DataConfig, PhantomConfig
from lab.data.cohort import BRAIN, Cohort, case_path, is_cohort, open_cohort
from lab.data.prepare import prepare
from lab.data.source import obtain
from lab.io import case_file as storage
from lab.io.case_file import content_digest, map_case, read_case, read_case_record, write_case
from lab.io.sealed_json import read_sealed, seal

ONE, OTHER = "EGD-0001", "EGD-0002"


@pytest.fixture
def copy(tiny_cohort, tmp_path) -> Cohort:
    """A cohort that a test may spoil."""
    return open_cohort(shutil.copytree(tiny_cohort.path, tmp_path / "cohort"))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def write_nan(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000:-998] = b"\x00\x7e"
    path.write_bytes(content)


def swap(path: Path) -> None:
    other = path.with_name(f"{OTHER}.safetensors")
    kept = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def edit_header(change: Callable[[dict], None]) -> Callable[[Path], None]:
    """Rewrite the header of a case file, its voxels staying as they are."""

    def spoil(path: Path) -> None:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])

    return spoil


def deep(path: Path) -> None:
    text = b'{"image":' + b"[" * 100_000
    path.write_bytes(len(text).to_bytes(8, "little") + text)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of a voxel": (lambda path: flip(path, -40_000), "voxels are not those that were prepared"),
    "the last bit of the mask or image": (lambda path: flip(path, -1), "voxels are not those that were prepared"),
    "NaN": (write_nan, "voxels are not those that were prepared"),
    "two files exchanged": (swap, f"it holds the case {OTHER}: two files were exchanged"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-7]), "expected"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"0"), "expected"),
    "empty": (lambda path: path.write_bytes(b""), "a header of 0 bytes"),
    "a header of 2^60 bytes": (lambda path: flip(path, 7), "a header of"),
    "a deep header": (deep, "nested too deeply"),
    "a list for a header": (lambda path: path.write_bytes(b"\x02\0\0\0\0\0\0\0[]"), "no header of tensors"),
    "2^60 voxels": (edit_header(lambda h: h["image"].update(shape=[4, 2**20, 2**20, 2**20])), "shape"),
    "fewer axes": (edit_header(lambda h: h["mask"].update(shape=[9600])), "shape"),
    "axes exchanged": (edit_header(lambda h: h["mask"].update(shape=[24, 20, 20])), "not those that were prepared"),
    "another type": (edit_header(lambda h: h["image"].update(dtype="BF16")), "BF16"),
    "tensors exchanged": (edit_header(lambda h: h.update(image=h["mask"], mask=h["image"])), "U8 voxels"),
    "bytes from elsewhere": (edit_header(lambda h: h["mask"].update(data_offsets=[8, 9608])), "bytes"),
    "a pipe": (pipe, "no regular file"),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_case_that_was_altered_is_refused_by_name(copy, kind):
    before = {case_id: np.array(copy.load(case_id)[0]) for case_id in (ONE, OTHER, "EGD-0003")}
    path, (spoil, reason) = case_path(copy.path, ONE), CASES[kind]
    spoil(path)
    with pytest.raises(ValueError, match=rf"{path} is damaged \(.*{re.escape(reason)}.*run prepare again"):
        copy.load(ONE)
    np.testing.assert_array_equal(copy.load("EGD-0003")[0], before["EGD-0003"])


def test_a_pipe_is_not_waited_for_when_the_cohort_is_opened(copy):
    pipe(case_path(copy.path, ONE))
    with pytest.raises(ValueError, match=f"{ONE}.safetensors is missing; put it back or run prepare again"):
        open_cohort(copy.path)


def spoil_image(image: np.ndarray, mask: np.ndarray) -> None:
    image[1, 10, 12, 10] = 1.001


def spoil_flags(image: np.ndarray, mask: np.ndarray) -> None:
    mask[10, 12, 10] |= 128


def spoil_brain(image: np.ndarray, mask: np.ndarray) -> None:
    mask[10, 12, 10] = 2 * BRAIN


@pytest.mark.parametrize("spoil", [spoil_image, spoil_flags, spoil_brain])
def test_voxels_that_no_preparation_gives_are_refused_though_their_digest_is_right(copy, spoil):
    path = case_path(copy.path, ONE)
    image, mask = (np.array(part) for part in map_case(path))
    spoil(image, mask)
    write_case(path, image, mask, read_case_record(path) or {})
    with pytest.raises(ValueError, match=r"is damaged \((values|flags)"):
        read_case(path, ONE, content_digest(image, mask))


def test_each_process_checks_each_file_once_while_it_stays_the_same(copy, monkeypatch):
    calls = []
    digest = storage.content_digest
    monkeypatch.setattr(storage, "content_digest", lambda *arrays: calls.append(1) or digest(*arrays))
    for _ in range(3):
        copy.load(ONE)
        copy.load(OTHER)
    assert len(calls) == 2
    path = case_path(copy.path, ONE)
    os.utime(path, ns=(1, 1))
    copy.load(ONE)
    assert len(calls) == 3
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(copy.load, (ONE,))[0].shape == (4, 20, 24, 20)
        flip(path, -40_000)
        with pytest.raises(ValueError, match="voxels are not those that were prepared"):
            pool.apply(copy.load, (ONE,))


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


def excel(text: str) -> str:
    return "\ufeff" + text.replace(",", ";").replace("\n", "\r\n")


TABLES: dict[str, Callable[[str], str]] = {
    "whether a patient enhances": lambda text: re.sub(rf"({ONE},{ONE},used,[^,]*),1", r"\1,0", text),
    "the patient": replaced(f"{OTHER},{OTHER}", f"{OTHER},{ONE}"),
    "the status": replaced(f"{ONE},{ONE},used", f"{ONE},{ONE},left out"),
    "the vendor": replaced("Siemens", "Philips"),
    "the age": lambda text: re.sub(r",(\d\d)(\.\d)?,([MF]),", r",9\1,\3,", text),
    "a row twice": lambda text: text + text.splitlines()[1] + "\n",
    "a row less": lambda text: "\n".join(text.splitlines()[:-1]) + "\n",
    "rows in another order": lambda text: "\n".join([text.splitlines()[0], *text.splitlines()[:0:-1]]) + "\n",
    "saved by Excel": excel,
    "the ends of lines": replaced("\n", "\r\n"),
    "zeros dropped": replaced("EGD-000", "EGD-"),
    "nothing": lambda text: "",
}


BOTH = ("a row twice", "a row less", "rows in another order", "saved by Excel", "zeros dropped", "nothing")
"""What can be done to a table of fewer columns, too."""


@pytest.mark.parametrize(
    ("name", "kind"), [*(("index.csv", kind) for kind in TABLES), *(("split.csv", k) for k in BOTH)]
)
def test_a_table_that_was_changed_is_refused_by_name(copy, name, kind):
    path = copy.path / name
    text = path.read_bytes().decode()
    changed = TABLES[kind](text)
    assert changed != text
    path.write_bytes(changed.encode())
    with pytest.raises(ValueError, match=rf"{path} was changed after the cohort was prepared.*run prepare again"):
        open_cohort(copy.path)


@pytest.mark.parametrize("name", ["index.csv", "split.csv"])
def test_a_table_that_is_away_is_named(copy, name):
    (copy.path / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing; run prepare again"):
        open_cohort(copy.path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("phantom", False), ("spacing_mm", 1.0), ("channels", ["T2", "T1", "FLAIR", "T1GD"]), ("digest", "0" * 32)],
)
def test_a_manifest_that_was_edited_is_refused(copy, name, value):
    path = copy.path / "manifest.json"
    record = json.loads(path.read_text())
    assert record[name] != value
    path.write_text(json.dumps({**record, name: value}))
    for reading in (open_cohort, lambda folder: obtain(DataConfig(path=folder), PhantomConfig(), folder)):
        with pytest.raises(ValueError, match=r"manifest\.json is damaged \(it was changed after it was written\)"):
            reading(copy.path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"[]", b'{"format": '])
def test_a_manifest_that_is_damaged_is_named_and_not_taken_for_scans(copy, content):
    (copy.path / "manifest.json").write_bytes(content)
    assert is_cohort(copy.path)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        obtain(DataConfig(path=copy.path), PhantomConfig(), copy.path)


def test_a_cohort_of_another_version_is_to_be_prepared_again(copy):
    path = copy.path / "manifest.json"
    path.write_text(json.dumps(seal({**read_sealed(path), "version": 1})))
    with pytest.raises(ValueError, match=r"prepared by another version of this program.*run prepare again"):
        open_cohort(copy.path)


def test_files_beside_the_cases_do_not_matter(copy):
    for name in (".DS_Store", "Thumbs.db", "copy of EGD-0001.safetensors"):
        (copy.path / "cases" / name).write_bytes(b"x")
    assert open_cohort(copy.path).digest == copy.digest


def test_preparing_again_mends_what_was_altered(tiny_phantom, tiny_cohort, tmp_path):
    settings = DataConfig(spacing_mm=8.0)
    out = shutil.copytree(tiny_cohort.path, tmp_path / "cohort")
    whole = prepare(tiny_phantom, out, settings, processes=1)
    assert whole.digest == tiny_cohort.digest
    flip(case_path(out, ONE), -40_000)
    edit_header(  # a patient who enhances no more
        lambda header: header["__metadata__"].update(
            case=header["__metadata__"]["case"].replace('"enhancing": 1', '"enhancing": 0')
        )
    )(case_path(out, OTHER))
    (out / "index.csv").write_text(excel((out / "index.csv").read_text()))
    assert prepare(tiny_phantom, out, settings, processes=1).digest == tiny_cohort.digest
    for name in ("index.csv", "split.csv", f"cases/{ONE}.safetensors", f"cases/{OTHER}.safetensors"):
        assert (out / name).read_bytes() == (tiny_cohort.path / name).read_bytes()


def test_a_phantom_whose_card_is_damaged_is_not_taken_for_patients(tiny_phantom, tmp_path):
    shutil.copytree(tiny_phantom, tmp_path / "tree")
    (tmp_path / "tree" / "phantom.json").write_text('{"phantom": tr')
    with pytest.raises(ValueError, match=r"phantom\.json: not the card of a phantom"):
        prepare(tmp_path / "tree", tmp_path / "out", DataConfig(spacing_mm=8.0), processes=1)
    assert not (tmp_path / "out").exists()

"""Results in a folder: whole or not at all, and nobody else's file is ever lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from lab.io import output_folder as folders
from lab.io.output_folder import check_output, output_folder

LAST = "report.json"
FIRST = {"image": "image 1", "dicom/1": "slice", LAST: "report 1"}
SECOND = {"image": "image 2", "map": "new", LAST: "report 2"}


def write(place: Path, content: dict[str, str], output: str = "synthesis", **how) -> None:
    with output_folder(place, output=output, last=LAST, **how) as folder:
        for name, text in content.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)


def content(place: Path) -> dict[str, str]:
    """Everything in the folder but our record."""
    files = [path for path in place.rglob("*") if path.is_file()]
    found = {path.relative_to(place).as_posix(): path.read_text() for path in files}
    return {name: text for name, text in found.items() if not name.startswith(folders.OWN)}


def test_it_is_made_and_replaces_its_like(tmp_path):
    place = tmp_path / "deep" / "out"
    for files in (FIRST, SECOND, FIRST):
        write(place, files, alone=True)
        assert content(place) == files
    assert [path.name for path in place.parent.iterdir()] == ["out"]
    assert not (place / folders.OWN / folders.NEW).exists()


def test_what_others_put_there_stays_and_is_told(tmp_path):
    place, said = tmp_path / "out", []
    write(place, FIRST)
    theirs = {"thesis.docx": "mine", "dicom/own.dcm": "mine", "notes/a/b.txt": "mine", ".notes.tmp": "mine"}
    for name, text in theirs.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (place / "link").symlink_to("nowhere")
    write(place, SECOND, say=said.append)
    assert content(place) == SECOND | theirs
    assert (place / "link").is_symlink()
    assert "also holds .notes.tmp, dicom, link and 2 more, not ours" in said[0]


@pytest.mark.parametrize("name", ["image", "map", LAST])
def test_a_file_with_our_name_that_is_not_ours_is_refused_before_the_work(name, tmp_path):
    """Whether somebody changed ours or had one of that name; `map` is not among the first files."""
    place = tmp_path / "out"
    write(place, FIRST)
    (place / name).write_text("mine")
    before = content(place)
    with pytest.raises(ValueError, match=f"out/{name} .* not replaced; move it elsewhere, or name a new folder"):
        check_output(place, *SECOND)
    with pytest.raises(ValueError, match=name):
        write(place, SECOND)
    assert content(place) == before


def test_a_changed_file_that_no_new_one_replaces_stays(tmp_path):
    place, said = tmp_path / "out", []
    write(place, FIRST)
    (place / "dicom" / "1").write_text("mine")
    write(place, SECOND, say=said.append)
    assert content(place) == SECOND | {"dicom/1": "mine"}
    assert "dicom" in said[0]


def test_a_folder_that_was_never_ours_is_refused(tmp_path):
    """Also one with a report.json, as versions before 0.4.0 left it."""
    place = tmp_path / "out"
    place.mkdir()
    for name in (LAST, "thesis.docx"):
        (place / name).write_text("mine")
        with pytest.raises(ValueError, match=r"holds other files \(report\.json\).*name a new folder"):
            write(place, SECOND, alone=True)
    with pytest.raises(ValueError, match=r"thesis\.docx is a file; name a folder"):
        write(place / "thesis.docx", SECOND)
    with pytest.raises(ValueError, match="is a file"):
        write(place / "thesis.docx" / "below", SECOND)
    assert content(place) == {LAST: "mine", "thesis.docx": "mine"}
    assert sorted(path.name for path in place.iterdir()) == [LAST, "thesis.docx"]


def test_links_and_folders_in_the_way(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1").write_text("mine")
    (tmp_path / "nowhere").symlink_to("gone")
    with pytest.raises(ValueError, match="nowhere is a link to nowhere"):
        write(tmp_path / "nowhere", FIRST)
    place = tmp_path / "out"
    for name, target in (("image", "gone"), ("dicom", elsewhere)):
        place.mkdir()
        (place / name).symlink_to(target)
        with pytest.raises(ValueError, match=f"out/{name} "):
            write(place, FIRST)
        assert [path.name for path in place.iterdir()] == [name]
        shutil.rmtree(place)
    (place / "image").mkdir(parents=True)
    with pytest.raises(ValueError, match="out/image "):
        write(place, FIRST)
    assert content(elsewhere) == {"1": "mine"}


def test_a_link_to_a_folder_is_the_folder(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    for files in (FIRST, SECOND):
        write(tmp_path / "out", files, alone=True)
    assert content(tmp_path / "disk") == SECOND
    assert (tmp_path / "out").is_symlink()


def test_commands_share_a_folder(tmp_path):
    write(tmp_path, {LAST: "a", "a.csv": "a", "left_out.csv": "a"}, output="classification")
    write(tmp_path, {"b.csv": "b"}, output="features")
    write(tmp_path, {"left_out.csv": "b"}, output="features b")
    write(tmp_path, {LAST: "c", "a.csv": "c"}, output="classification")
    assert content(tmp_path) == {LAST: "c", "a.csv": "c", "b.csv": "b", "left_out.csv": "b"}


def test_an_error_or_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    place = tmp_path / "out"

    def fail(files: dict[str, str]) -> None:
        with output_folder(place, output="synthesis", last=LAST) as folder:
            (folder / "half").write_text("")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail(FIRST)
    assert not place.exists()
    write(place, FIRST)
    with pytest.raises(OSError, match="No space"):
        fail(SECOND)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_atomically", full)  # the record cannot be written
    with pytest.raises(OSError, match="No space"):
        write(place, SECOND)
    assert content(place) == FIRST
    assert not (place / folders.OWN / folders.NEW).exists()


def killed_at(step: int, place: Path) -> bool:
    """Whether a process that writes `SECOND` is killed at the given call that changes a disk, before it ends."""
    child = os.fork()
    if child == 0:
        calls = iter(range(1, 1000))

        def deadly(what):
            def call(*arguments, **more):
                if next(calls) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return what(*arguments, **more)

            return call

        for name in ("replace", "unlink", "mkdir", "rmdir", "fsync"):
            setattr(os, name, deadly(getattr(os, name)))
        try:
            write(place, SECOND, say=None)
        finally:
            os._exit(0 if content(place).get(LAST) == SECOND[LAST] else 1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("older", [True, False])
def test_killed_at_any_step(older, tmp_path):
    """Old or new: what is half moved has no report, the next call has the new one, and others' files stay."""
    for step in range(1, 100):
        place = tmp_path / str(step) / "out"
        if older:
            write(place, FIRST)
        place.mkdir(parents=True, exist_ok=True)
        (place / "thesis.docx").write_text("mine")
        killed = killed_at(step, place)
        found = content(place)
        assert found.pop("thesis.docx") == "mine"
        if LAST in found:
            assert found in (FIRST, SECOND), step
        else:
            assert set(found.values()) <= {*FIRST.values(), *SECOND.values()}, step
        if not killed:
            assert step > 12
            return
        check_output(place, *SECOND)  # what was begun comes to its end
        found = content(place)
        assert found.pop("thesis.docx") == "mine"
        assert found in ((FIRST, SECOND) if older else ({}, SECOND)), step
        write(place, FIRST | {"image": str(step)})
        assert content(place) == FIRST | {"image": str(step), "thesis.docx": "mine"}
        assert not (place / folders.OWN / folders.NEW).exists()


def test_two_at_once_write_one_after_the_other(tmp_path):
    place = tmp_path / "out"
    results = [{"image": str(number), LAST: str(number)} for number in range(8)]
    threads = [threading.Thread(target=write, args=(place, files), kwargs={"alone": True}) for files in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(place) in results


@pytest.mark.parametrize(
    "record", ["", "[]", '{"format": "another"}', '{"format": "gadfree output", "outputs": {"a": {"../b": "0"}}}']
)
def test_a_record_that_is_not_ours_stops_everything(record, tmp_path):
    place = tmp_path / "out"
    write(place, FIRST)
    (place / folders.OWN / folders.RECORD).write_text(record)
    with pytest.raises(ValueError, match="damaged or not ours"):
        write(place, SECOND)
    assert content(place) == FIRST


def test_somebodys_own_folder_of_that_name(tmp_path):
    (tmp_path / folders.OWN / folders.NEW).mkdir(parents=True)
    (tmp_path / folders.OWN / folders.NEW / "thesis.docx").write_text("mine")
    with pytest.raises(ValueError, match="damaged or not ours"):
        write(tmp_path, SECOND)
    assert (tmp_path / folders.OWN / folders.NEW / "thesis.docx").read_text() == "mine"


def test_a_pipe_with_our_name_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "image")
    with pytest.raises(ValueError, match="image is not a file that this version has written"):
        write(tmp_path, FIRST)


def test_the_record_names_every_file_with_its_digest(tmp_path):
    write(tmp_path, FIRST)
    record = json.loads((tmp_path / folders.OWN / folders.RECORD).read_text())
    assert record["outputs"] == {"synthesis": {name: folders.plain_sha256(tmp_path / name) for name in FIRST}}

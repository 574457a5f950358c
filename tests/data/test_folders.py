"""A folder is there whole or not at all, and nobody else's files are lost."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab.data.folders import whole_folder


def test_it_appears_at_once_and_replaces_its_like(tmp_path):
    place = tmp_path / "deep" / "out"
    for text in ("first", "second"):
        with whole_folder(place, mark="mark") as folder:
            (folder / "mark").write_text(text)
            assert not place.exists() or (place / "mark").read_text() != text
        assert (place / "mark").read_text() == text
    assert [path.name for path in place.parent.iterdir()] == ["out"]


def test_an_error_leaves_what_was_there(tmp_path):
    place = tmp_path / "out"
    with whole_folder(place, mark="mark") as folder:
        (folder / "mark").write_text("first")

    def fail() -> None:
        with whole_folder(place, mark="mark") as folder:
            (folder / "half").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in place.iterdir()] == ["mark"]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match=r"thesis\.txt"), whole_folder(tmp_path / "out", mark="mark"):
        pass
    with pytest.raises(ValueError, match="is a file"), whole_folder(tmp_path / "out" / "thesis.txt", mark="mark"):
        pass
    assert (tmp_path / "out" / "thesis.txt").exists()


def test_what_killed_processes_left_is_cleared_and_put_back(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old, new = tmp_path / f".out.{gone.pid}.old", tmp_path / f".out.{gone.pid}.new"
    running = tmp_path / f".out.{os.getppid()}.new"
    for folder in (old, new, running):
        folder.mkdir()
    (old / "mark").write_text("the last whole one")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out", mark="mark"):
        raise RuntimeError
    assert (tmp_path / "out" / "mark").read_text() == "the last whole one"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([running.name, "out"])

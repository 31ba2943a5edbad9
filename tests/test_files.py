"""Errors of disks and file servers, each of which names the file; and folders for temporary files."""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from planted_grid import make_cells, make_facts
from safetensors import SafetensorError

from euds.errors import InputError, RunStopped
from euds.files import check_place, check_writable, machine_failure, needs_room, needs_storage, permitted, write_json
from euds.scratch import scratch_folder, temporary_folder
from euds.study.grid.cells import append_cell

UNREADABLE = Path("/proc/self/mem")
"""Nothing is mapped at its start: Linux answers a read with EIO, as it does for a broken disk."""


@pytest.mark.parametrize("guard", [needs_storage, needs_room, permitted])
def test_storage_that_fails_stops_the_run(guard: Callable[[Path], AbstractContextManager[None]]) -> None:
    with pytest.raises(RunStopped, match="failed") as failed, guard(Path("run")):
        UNREADABLE.read_bytes()
    said = "run: the file system or the network failed (Input/output error); when it is well again, repeat the command"
    assert str(failed.value).startswith(said)


def test_the_file_that_the_system_names_is_told() -> None:
    with pytest.raises(RunStopped, match=r"^part: the file system or the network failed"), needs_storage(Path("run")):
        raise OSError(errno.ESTALE, "Stale file handle", "part")


def test_a_full_disk_is_no_storage_that_fails() -> None:
    with pytest.raises(RunStopped, match="run: cannot be written: No space left on device; make room"):
        write_to_a_full_disk()


def write_to_a_full_disk() -> None:
    with needs_room(Path("run")), needs_storage(Path("run")), Path("/dev/full").open("wb") as handle:
        handle.write(b"text")


def test_a_full_disk_is_known_by_the_words_of_libraries_in_rust() -> None:
    full = pytest.raises(RunStopped, match="model: cannot be written: No space left on device; make room")
    with full, needs_room(Path("model")):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError, match="Invalid header"), needs_room(Path("model")):
        raise SafetensorError("Invalid header")


def test_where_nothing_may_be_written_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"^run: Read-only file system$"), permitted(Path("run")):
        raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("check", [check_place, check_writable])
def test_a_folder_that_takes_no_file_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[Path], None]
) -> None:
    # As root, no mode of a folder keeps from writing.
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(InputError, match=rf"^{tmp_path}: Permission denied$"):
        check(tmp_path)
    state = os.statvfs(tmp_path)
    flags = state.f_flag | os.ST_RDONLY
    monkeypatch.setattr(os, "statvfs", lambda place: os.statvfs_result((*state[:8], flags, state.f_namemax)))
    with pytest.raises(InputError, match=rf"^{tmp_path}: Read-only file system$"):
        check(tmp_path)


def test_what_is_refused_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no/such: No such file or directory"), permitted(tmp_path / "no" / "such"):
        (tmp_path / "no" / "such").open()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_file_that_is_written_to_a_failing_disk_is_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    cell, path = next(iter(make_cells(make_facts()))), tmp_path / "file"
    monkeypatch.setattr(os, "fsync", failing)
    writes: list[Callable[[], None]] = [lambda: append_cell(path, cell), lambda: write_json(path, {})]
    for write in writes:
        with pytest.raises(RunStopped, match=r"file: the file system or the network failed .*repeat the command"):
            write()


def test_the_machine_fails_by_its_own_errors_only() -> None:
    said = {
        errno.EIO: "a: the file system or the network failed",
        errno.EROFS: "a: the file system or the network failed",
        errno.ENOSPC: "a: cannot be written: No space left",
        errno.ENOENT: "None",
    }
    for number, begins in said.items():
        assert str(machine_failure(OSError(number, os.strerror(number), "a"))).startswith(begins)
    assert str(machine_failure(OSError(errno.EDQUOT, "Quota"))).startswith("a file: cannot be written: Disk quota")
    assert machine_failure(ValueError("no such device")) is None


def test_no_place_for_temporary_files_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python takes a folder that is full for none, as one that is missing.
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    monkeypatch.setattr(tempfile, "tempdir", None)
    full = pytest.raises(RunStopped, match=r"temporary files: No usable temporary directory .*none.* by TMPDIR")
    with full, scratch_folder():
        pass
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder() as folder:
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    killed = "import os\nfrom euds.scratch import scratch_folder\nwith scratch_folder():\n    os._exit(1)\n"
    assert subprocess.run([sys.executable, "-c", killed], env=environment, check=False).returncode == 1
    (left,) = tmp_path.iterdir()
    (left / "weights").write_bytes(b"1")
    (tmp_path / "euds-corpus").mkdir()
    (tmp_path / ".euds-scratch-linked8").symlink_to(tmp_path / "euds-corpus")
    others = {"euds-corpus", ".euds-scratch-linked8"}
    another = "from euds.scratch import scratch_folder\nwith scratch_folder():\n    pass\n"
    # One made just now may be another process's that has not locked it yet.
    subprocess.run([sys.executable, "-c", another], env=environment, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {*others, left.name}
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
    subprocess.run([sys.executable, "-c", another], env=environment, check=True)
    assert {path.name for path in tmp_path.iterdir()} == others


def test_a_folder_in_use_is_nobody_elses_to_delete(tmp_path: Path) -> None:
    with temporary_folder(tmp_path, "a-") as first:
        os.utime(first, (0, 0))
        with temporary_folder(tmp_path, "a-"):
            assert first.is_dir()
    assert list(tmp_path.iterdir()) == []

"""A run survives a power cut: whatever is there is whole, and whatever it tells of is there."""

import errno
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import euds
from euds import files


class Event(NamedTuple):
    """A file or folder was synced, or a file was renamed to `path`.

    Numbers are those of inodes, which a file keeps when it is renamed; `folder` is that of the folder of `path`.
    """

    number: int
    path: Path | None = None
    folder: int | None = None


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What is synced and renamed from here on."""
    found: list[Event] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(handle: int) -> None:
        fsync(handle)
        found.append(Event(os.fstat(handle).st_ino))

    def recorded_replace(source: Any, target: Any) -> None:
        replace(source, target)
        path = Path(target)
        if path.is_file():
            found.append(Event(path.stat().st_ino, path, path.parent.stat().st_ino))

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return found


def test_what_a_run_leaves_is_durable_before_anything_tells_of_it(
    corpus: Path, tmp_path: Path, events: list[Event]
) -> None:
    run_dir = tmp_path / "runs" / "run"
    euds.score(corpus, out=run_dir, measures=["information"], shard_rows=64)
    renames = [at for at, event in enumerate(events) if event.path is not None and run_dir in event.path.parents]
    paths = [events[at].path for at in renames]
    for at, after in zip(renames, [*renames[1:], len(events)], strict=True):
        number, path, folder = events[at]
        assert path is not None
        assert folder is not None
        # A number is given again when its file is gone: the sync is since the last file that had it.
        own = next((before for before in reversed(range(at)) if events[before].number == number), None)
        assert own is not None, f"{path}: is not synced before it is renamed"
        assert events[own].path is None, f"{path}: is not synced before it is renamed"
        # Intermediate results and records may be lost, and then cost their shard once more.
        if path.suffix != ".arrow" and path.parent.name != "records":
            assert Event(folder) in events[at:after], f"{path}: its folder is not synced before the next file appears"
    for part in sorted(run_dir.glob("scores/*.parquet")):
        assert paths.index(part) < paths.index(run_dir / "work" / "records" / f"{part.stem}.json")
    assert (paths[0], paths[-1]) == (run_dir / "manifest.json", run_dir / "manifest.json")
    assert {run_dir / "quarantine.jsonl", run_dir / "scores" / "_parts.jsonl"} <= set(paths)
    # Folders that were made for the run are there, too.
    for made in (tmp_path, tmp_path / "runs", run_dir):
        assert Event(made.stat().st_ino) in events[: renames[0]]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EACCES])
def test_a_folder_that_cannot_be_synced_stops_no_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refused: list[Path] = []
    sync = files.sync_folder

    def refusing(folder: Path) -> None:
        # As where another host makes the same folder at the same time.
        if folder in (tmp_path, tmp_path / "run") and len(refused) < 2:
            refused.append(folder)
            raise OSError(number, os.strerror(number), str(folder))
        sync(folder)

    monkeypatch.setattr(files, "sync_folder", refusing)
    assert euds.score(corpus, out=tmp_path / "run", measures=["information"]).n_scored == 150
    assert len(refused) == 2

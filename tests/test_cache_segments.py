"""Segments of a score cache: what is looked up is what was added, whoever writes, merges, evicts or is killed."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from euds.engine.cache_upkeep import ABANDONED_SECONDS, FAN, tend
from euds.engine.segments import Segments, keys_of, segment_names

SPACE = "generative-" + 32 * "0"
LIMIT = 10**9


def segment_table(n: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.random(n * 3, np.float32)), 3)
    return pa.table({"value": pa.array(rng.random(n, np.float32)), "count": np.arange(n, dtype=np.int32), "v": vectors})


def some_keys(n: int, seed: int) -> Any:
    ids = np.random.default_rng(seed).integers(0, 1000, 4 * n)
    return np.sort(keys_of(ids, np.arange(0, 4 * n + 1, 4), range(n)))


def test_any_flipped_byte_gives_the_same_rows_or_none(tmp_path: Path) -> None:
    keys, rows = some_keys(5, 0), segment_table(5, 0)
    segments = Segments(tmp_path / SPACE)
    segments.add(keys, rows)
    (name,) = segment_names(segments.folder)
    path = segments.folder / name
    content = path.read_bytes()
    intact = 0
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        found, table = Segments(segments.folder).look_up(keys)
        if table is not None:
            intact += int(found.all())
            assert table.cast(rows.schema).equals(rows.filter(pa.array(found)))
    assert 0 < intact < len(content)


def test_what_the_system_refuses_is_a_miss_and_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    keys = some_keys(5, 0)
    segments = Segments(tmp_path / SPACE)
    for _ in range(FAN):
        segments.add(keys, segment_table(5, 0))
    names = segment_names(segments.folder)
    with monkeypatch.context() as patched:
        patched.setattr("os.utime", refuse)
        assert segments.look_up(keys)[0].all()
    with monkeypatch.context() as patched:
        for module in ("segments", "cache_upkeep"):
            patched.setattr(f"euds.engine.{module}.read_parquet", refuse)
        assert not Segments(segments.folder).look_up(keys)[0].any()
        tend(tmp_path, segments.folder, LIMIT)
    assert segment_names(segments.folder) == names


def test_a_segment_that_has_gone_meanwhile_is_a_miss_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, segments = some_keys(5, 0), Segments(tmp_path / "source=web")
    segments.add(keys, segment_table(5, 0))
    # A folder that is named as a column would be is none.
    assert segments.look_up(keys)[0].all()
    (name,) = segment_names(segments.folder)
    (segments.folder / name).unlink()
    assert segments._search(name, keys)[1] is None
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.timeout(20)
def test_damaged_segments_that_cannot_be_removed_end_the_merging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segments = Segments(tmp_path / SPACE)
    for seed in range(FAN):
        segments.add(some_keys(5, seed), segment_table(5, seed))
    names = segment_names(segments.folder)
    for name in names[1:]:
        path = segments.folder / name
        path.write_bytes(b"no Parquet" + path.read_bytes()[10:-10] + b"no Parquet")
    real = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".parquet":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        real(self, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        tend(tmp_path, segments.folder, LIMIT)
        assert "damaged, but cannot be removed (Operation not permitted)" in capsys.readouterr().err
    assert segment_names(segments.folder) == names
    tend(tmp_path, segments.folder, LIMIT)
    assert "damaged, removed from the cache" in capsys.readouterr().err
    assert len(segment_names(segments.folder)) == 1


def test_a_segment_that_goes_while_the_cache_is_tended_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = Segments(tmp_path / SPACE)
    for seed in range(FAN + 1):
        segments.add(some_keys(5, seed), segment_table(5, seed))

    def listed(folder: Path) -> list[str]:
        names = segment_names(folder)
        (folder / names[0]).unlink()
        monkeypatch.setattr("euds.engine.cache_upkeep.segment_names", segment_names)
        return names

    monkeypatch.setattr("euds.engine.cache_upkeep.segment_names", listed)
    tend(tmp_path, segments.folder, LIMIT)
    assert len(segment_names(segments.folder)) == 1


def test_look_up_equals_a_dictionary_across_merges(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    segments = Segments(tmp_path / SPACE)
    pool = some_keys(200, 1)
    expected: dict[bytes, Any] = {}
    for at in range(3 * FAN):
        keys = rng.choice(pool, int(rng.integers(1, 30)), replace=False)
        if at % 5 == 2:
            # Of a larger size class.
            keys = np.concatenate([keys, some_keys(4000, 2 + at)])
        keys = np.sort(keys)
        rows = segment_table(len(keys), at)
        segments.add(keys, rows)
        tend(tmp_path, segments.folder, LIMIT)
        for key, row in zip(keys.tolist(), rows.to_pylist(), strict=True):
            expected.setdefault(key, row)
        found, table = segments.look_up(pool)
        assert found.tolist() == [key in expected for key in pool.tolist()]
        assert table is not None
        assert table.to_pylist() == [expected[key] for key in pool[found].tolist()]
    assert len(segment_names(segments.folder)) < 2 * FAN


def test_merging_moves_no_row_past_an_older_one(tmp_path: Path) -> None:
    key, segments = some_keys(1, 0), Segments(tmp_path / SPACE)
    segments.add(some_keys(5, 1), segment_table(5, 1))
    # Larger than the others, and merged with none of them.
    large = np.sort(np.concatenate([key, some_keys(4000, 2)]))
    segments.add(large, segment_table(len(large), 2))
    segments.add(key, segment_table(1, 3))
    for seed in range(4, FAN + 2):
        segments.add(some_keys(5, seed), segment_table(5, seed))
    _, before = segments.look_up(key)
    tend(tmp_path, segments.folder, LIMIT)
    assert len(segment_names(segments.folder)) == 2
    found, after = segments.look_up(key)
    assert found.all()
    assert after == before


def test_a_key_that_ends_in_zeros_is_told_apart(tmp_path: Path) -> None:
    keys = np.array([b"a" * 14 + b"\0\0", b"a" * 14 + b"\0\1", b"a" * 16], "S16")
    segments = Segments(tmp_path / SPACE)
    segments.add(keys, segment_table(3, 0))
    found, table = Segments(segments.folder).look_up(keys[1:])
    assert found.all()
    assert table is not None
    assert table.column("count").to_pylist() == [1, 2]


def test_the_least_recently_used_go_and_the_limit_holds(tmp_path: Path) -> None:
    segments = Segments(tmp_path / SPACE)
    all_keys = [some_keys(3000, at) for at in range(6)]
    sizes = []
    for at, keys in enumerate(all_keys):
        segments.add(keys, segment_table(3000, at))
        path = segments.folder / segment_names(segments.folder)[-1]
        os.utime(path, (at, at))
        sizes.append(path.stat().st_size)
    # Looked up, the oldest becomes the one used last.
    assert segments.look_up(all_keys[0][:1])[0].all()
    limit = sum(sizes) - sizes[1] - sizes[2]
    tend(tmp_path, segments.folder, limit)
    there = [bool(segments.look_up(keys)[0].all()) for keys in all_keys]
    assert there == [True, False, False, True, True, True]
    tend(tmp_path, segments.folder, 1)
    assert segment_names(segments.folder) == []


def test_a_merged_segment_was_used_when_the_last_of_its_parts_was(tmp_path: Path) -> None:
    segments = Segments(tmp_path / SPACE)
    for at in range(FAN):
        segments.add(some_keys(10, at), segment_table(10, at))
        os.utime(segments.folder / segment_names(segments.folder)[-1], (FAN - at, FAN - at))
    tend(tmp_path, segments.folder, LIMIT)
    (merged,) = segment_names(segments.folder)
    assert (segments.folder / merged).stat().st_mtime == FAN


def test_what_a_killed_writer_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    segments = Segments(tmp_path / SPACE)
    segments.add(some_keys(3, 0), segment_table(3, 0))
    old, new = (segments.folder / f".{name}.parquet.1-0123456789abcd.partial" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"PAR1half")
    past = time.time() - ABANDONED_SECONDS - 60
    os.utime(old, (past, past))
    tend(tmp_path, segments.folder, LIMIT)
    assert (old.exists(), new.exists()) == (False, True)
    assert segments.look_up(some_keys(3, 0))[0].all()


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_cache_segments import LIMIT, SPACE, segment_table, some_keys
from euds.engine.cache_upkeep import tend
from euds.engine.segments import Segments
cache, seed = Path({cache!r}), int(sys.argv[1])
segments = Segments(cache / SPACE)
for at in range({n}):
    # Every other segment is one that the other process writes as well.
    own = at if at % 2 else 1000 * seed + at
    segments.add(some_keys(50, own), segment_table(50, own))
    tend(cache, segments.folder, LIMIT)
    print(at, flush=True)
"""


def writer(cache: Path, seed: int, n: int) -> "subprocess.Popen[bytes]":
    program = WRITER.format(tests=str(Path(__file__).parent), cache=str(cache), n=n)
    return subprocess.Popen([sys.executable, "-c", program, str(seed)], stdout=subprocess.PIPE)


@pytest.mark.slow
def test_two_processes_write_and_merge_at_the_same_time(tmp_path: Path) -> None:
    processes = [writer(tmp_path, seed, 60) for seed in (1, 2)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    segments = Segments(tmp_path / SPACE)
    assert len(segment_names(segments.folder)) < 2 * FAN
    for own in {at if at % 2 else 1000 * seed + at for at in range(60) for seed in (1, 2)}:
        found, table = segments.look_up(some_keys(50, own))
        assert found.all()
        assert table is not None
        assert table.equals(segment_table(50, own))


@pytest.mark.slow
def test_writers_killed_at_any_moment_leave_nothing_that_is_trusted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for seed in range(1, 5):
        process = writer(tmp_path, seed, 10_000)
        assert process.stdout is not None
        n_written = int(rng.integers(4, 40))
        for _ in range(n_written):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        segments = Segments(tmp_path / SPACE)
        for at in range(n_written):
            own = at if at % 2 else 1000 * seed + at
            found, table = segments.look_up(some_keys(50, own))
            assert found.all()
            assert table is not None
            assert table.equals(segment_table(50, own))
    # A lock whose holder was killed is free, and the cache as good as before.
    tend(tmp_path, tmp_path / SPACE, LIMIT)
    assert Segments(tmp_path / SPACE).look_up(some_keys(50, 1))[0].all()

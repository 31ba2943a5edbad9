"""The files that benchmarks write: a machine's rows in its own, and the tables that are made of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_scale
import bench_search
import environment
import pytest
import table

from euds.kernels import token_stats_cpp

FACTS = {"date": "2026-01-02", "cpu": "this CPU", "cores": 2}
ROWS = [{"part": "box", "rows": 1}]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of benchmarks/results."""
    monkeypatch.setattr(environment, "RESULTS", tmp_path)
    return tmp_path


def write_results(path: Path, **facts: Any) -> Path:
    path.write_text(json.dumps({"environment": {**FACTS, **facts}, "rows": ROWS}))
    return path


def test_rows_of_the_same_machine_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "search-cpu.json"
    assert environment.kept_rows(path, FACTS) == []
    assert environment.kept_rows(write_results(path, date="2026-01-01"), FACTS) == ROWS


@pytest.mark.parametrize("facts", [{"cpu": "another"}, {"gpu": "only there"}])
def test_rows_of_another_machine_get_no_header_of_this_one(tmp_path: Path, facts: dict[str, str]) -> None:
    path = write_results(tmp_path / "search-cpu.json", **facts)
    with pytest.raises(SystemExit, match=f"search-cpu.json has other {next(iter(facts))}: measure all anew"):
        environment.kept_rows(path, FACTS)


@pytest.mark.parametrize(("isa", "name"), [("avx512", "scale-cpu_avx512.json"), ("avx2", "scale-cpu.json")])
def test_processors_with_avx512_have_files_of_their_own(monkeypatch: pytest.MonkeyPatch, isa: str, name: str) -> None:
    monkeypatch.setattr(token_stats_cpp, "ISA", isa)
    assert environment.results_path("scale").name == name


@pytest.mark.parametrize(
    ("name", "main", "parts", "options"),
    [
        ("scale", bench_scale.main, bench_scale.PARTS, ("--rows", "10")),
        ("search", bench_search.main, bench_search.PARTS, ("--part", "box")),
    ],
)
def test_a_part_is_not_measured_beside_rows_of_another_machine(
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    main: Callable[[], None],
    parts: dict[str, Any],
    options: tuple[str, ...],
) -> None:
    for part in parts:
        monkeypatch.setitem(parts, part, lambda *_: pytest.fail("it was measured"))
    path = write_results(environment.results_path(name), cpu="another")
    before = path.read_bytes()
    monkeypatch.setattr("sys.argv", [name, *options])
    with pytest.raises(SystemExit, match=r"has other .*cpu.*: measure all anew"):
        main()
    assert path.read_bytes() == before


def test_the_tables_are_those_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(table.FOLDER / "results", tmp_path / "results")
    shutil.copy(table.FOLDER / "README.md", tmp_path)
    monkeypatch.setattr(table, "FOLDER", tmp_path)
    table.write_tables()
    committed = Path(environment.__file__).parent / "README.md"
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")

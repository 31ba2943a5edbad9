"""The files that benchmarks write: a machine's rows in its own, and the tables and texts that are made of them."""

import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bench_scale
import bench_search
import environment
import pytest
import table
from bench_semantic import LOOP_ROWS

from euds.files import read_json
from euds.kernels import token_stats_cpp

FACTS = {"date": "2026-01-02", "cpu": "this CPU", "cores": 2}
ROWS = [{"part": "box", "rows": 1}]


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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    main: Callable[[], None],
    parts: dict[str, Any],
    options: tuple[str, ...],
) -> None:
    monkeypatch.setattr(environment, "RESULTS", tmp_path)
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


def rows_of(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_json(environment.RESULTS / f"{name}.json")["rows"]
    return rows


def text_of(path: Path) -> str:
    """A document's words on one line."""
    return " ".join(path.read_text(encoding="utf-8").split())


def test_the_text_says_how_much_faster_another_processor_is() -> None:
    speeds = {(row["op"], row["contender"], row["rows"]): row["p50"] for row in rows_of("semantic-cpu")}
    loops = [row for row in rows_of("semantic-cpu_avx512") if row["rows"] == LOOP_ROWS]
    times = [row["p50"] / speeds[row["op"], row["contender"], LOOP_ROWS] for row in loops]
    assert f"but loops in Python {min(times):.1f} to {max(times):.1f} times" in text_of(table.FOLDER / "README.md")


@pytest.mark.parametrize(
    ("name", "n_rows", "said"),
    [
        ("semantic-cpu_avx512", 1_000_000, r"{:.1f} % lie in .* with .* MiniBatchKMeans {:.1f} %, in {:.1f} times the"),
        ("semantic-cpu", 200_000, r"the other way round, {:.1f} against {:.1f} %, in {:.1f} times the time"),
    ],
)
def test_the_text_says_what_the_clusters_are_worth(name: str, n_rows: int, said: str) -> None:
    ours, theirs = (row for row in rows_of(name) if row["part"] == "clusters" and row["rows"] == n_rows)
    said = said.format(100 * ours["purity"], 100 * theirs["purity"], ours["p50"] / theirs["p50"])
    assert re.search(said, text_of(table.FOLDER.parent / "docs" / "semantic.md"))


def test_the_text_says_what_share_of_reading_the_histograms_reach() -> None:
    reached = [
        f"{100 * row['ratio_to_limit']:.0f}"
        for row in rows_of("search-cpu_avx512")
        if row["part"] == "histogram" and row["contender"] == "euds"
    ]
    assert len(reached) == 4
    said = "the Intel Xeon of the second table has {} and {} %, and {} and {} %".format(*reached)
    assert said in text_of(table.FOLDER / "README.md")


def shares(name: str, op: str, contender: str, hidden: Sequence[int | None]) -> str:
    """The least and the largest share of the limit that a contender reaches, as the text gives them."""
    found = [
        100 * row["ratio_to_limit"]
        for row in rows_of(name)
        if (row["op"], row["contender"]) == (op, contender) and row.get("hidden") in hidden
    ]
    assert len(found) in (10, 15)
    return f"{min(found):.1f} to {max(found):.1f} %"


def test_the_text_says_what_share_of_their_limits_the_gpu_kernels_reach() -> None:
    text = text_of(table.FOLDER / "README.md")
    h100, h200 = "kernels-cuda_h100_80gb_hbm3", "kernels-cuda_h200"
    for contender in ("euds triton", "euds triton, with varentropy"):
        for name in (h100, h200):
            assert shares(name, "token_stats", contender, [None]) in text
    narrow, wide = (576, 1024), (2048, 4096)
    for name in (h100, h200):
        for hidden in (narrow, wide):
            assert shares(name, "linear_token_stats", "euds triton", hidden) in text
            assert shares(name, "linear_token_stats", "Liger", hidden) in text


def test_the_text_says_what_real_rows_showed() -> None:
    found = read_json(environment.RESULTS / "semantic-samples-cpu.json")
    text = text_of(table.FOLDER.parent / "docs" / "semantic.md")
    assert f"{100 * found['judge_on_newly_drawn_pairs']['accuracy']:.0f} % right on newly drawn pairs" in text
    ranks = {tuple(pair["scores"]): pair["spearman"] for pair in found["agreement"]}
    weighed = {name: f"samples, {name}, rao_blackwell" for name in ("similarity 0.5", "similarity 0.7", "judge")}
    loose, strict, judge = (f"{ranks['clusters', name]:+.2f}" for name in weighed.values())
    assert f"Spearman {loose} (similarity 0.5), {strict} (0.7), {judge} (judge)" in text
    loose, strict, judge = weighed.values()
    assert f"against the judge: {ranks[loose, judge]:+.2f}; 0.5 against 0.7: {ranks[loose, strict]:+.2f}" in text
    parts = found["cost"]["judge"]["samples"]
    tera = {name: parts[name]["flops"] / 1e12 for name in ("generation", "embedding", "grouping")}
    pairs = parts["grouping"]
    epoch = found["cost"]["similarity 0.5"]["training_epoch"]["flops"] / 1e12
    seconds = [f"{parts[name]['seconds']:.0f}" for name in tera]
    assert found["environment"]["threads"] == 1
    assert (
        f"Generation {tera['generation']:.1f} TFLOP, embedding {tera['embedding']:.2f}, the judge "
        f"{tera['grouping']:.1f} ({pairs['judged_pairs']:,} of {pairs['all_pairs']:,} directed pairs), against "
        f"{epoch:.2f} for an epoch of training MiniLM on these rows; on one thread they took {seconds[0]}, "
        f"{seconds[1]} and {seconds[2]} s."
    ) in text
    for example in found["examples"]:
        if example["row"] in (0, 57, 142):
            groups = zip(*(example["groups"][name] for name in weighed), strict=True)
            for generation, numbers in zip(example["generations"], groups, strict=True):
                cells = " | ".join(map(str, numbers))
                assert f"| {' '.join(generation.split())} | {cells} |" in text


def test_the_text_says_how_scoring_grows() -> None:
    rows = read_json(environment.RESULTS / "scale-cpu.json")["rows"]
    found = {(row["measure"], row["way"], row["rows"]): row for row in rows}
    text = text_of(table.FOLDER.parent / "docs" / "scale.md")
    sizes = (100_000, 1_000_000, 10_000_000)
    alone = [found["information", "one process", size] for size in (10_000, *sizes)]
    for row in alone:
        share = row["again_seconds"] / row["seconds"]
        told = "" if row["rows"] == 10_000 else f", {100 * share:.{0 if share > 0.1 else 1}f} %"
        assert (
            f"| {row['rows']:,} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {row['peak_memory_mib']} MiB | "
            f"{row['again_seconds']:.1f} s{told} |"
        ) in text
    _, small, middle, large = alone
    power, last = (math.log(large["seconds"] / row["seconds"], large["rows"] / row["rows"]) for row in (small, middle))
    grown = large["peak_memory_mib"] / small["peak_memory_mib"] - 1
    entropy, words = (
        found["kernel", name, 100_000]["tokens_per_second"] / 1e6
        for name in ("information entropy", "splitting into words")
    )
    two = [found["information", "two processes", size]["seconds"] for size in sizes[:2]]
    ray = found["information", "Ray, two actors", 1_000_000]["seconds"]
    started = found["information", "Ray, two actors", 10_000]["seconds"] - alone[0]["seconds"]
    for claim in (
        f"by the power of {power:.2f} of the rows, from a million on by that of {last:.2f}, and memory by "
        f"{100 * grown:.0f} % for a hundred times the rows",
        f"the entropy itself goes at {entropy:.0f} million tokens a second, splitting texts into words at {words:.1f}.",
        f"a second more for two workers, {started:.0f} for Ray with two actors",
        f"at a million rows ({ray:.1f} seconds against {middle['seconds']:.1f})",
        f"two workers are there ({two[1]:.1f}; at 100,000 rows {two[0]:.1f} against {small['seconds']:.1f})",
    ):
        assert claim in text

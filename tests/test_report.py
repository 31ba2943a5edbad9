"""Reports of runs that were moved, changed, of scores alone, and of many groups."""

import re
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pyarrow.parquet as pq
import pytest

import euds
from euds.errors import InputError, InvalidArgument
from euds.files import read_json, write_json
from euds.report import figures, write_report
from euds.report.content import gather
from euds.selection.summary import summary
from euds.study.types import StudyRow, StudyTable, TrainConfig, rows_sha256, spread
from euds.types import Int64Array

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


def test_a_report_is_written_from_wherever_the_run_lies(
    tmp_path: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    euds.score(write_jsonl([{"text": "the film was sad"}, {"text": "not so"}]), out="run", measures=["information"])
    euds.select("run", keep=1, rule="random")
    monkeypatch.chdir(tmp_path / "run")
    assert "Scores and what was kept" in write_report(Path()).read_text()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument, match="examples: must be at least 0, got -1"):
        write_report("run", examples=-1)
    (tmp_path / "run").rename(tmp_path / "moved")
    assert "Scores and what was kept" in write_report(Path("moved")).read_text()


def test_a_report_finds_the_kept_rows_among_those_of_earlier_selections(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(30, 1)])
    for stage, keep in enumerate((20, 10, 5)):
        run_dir = tmp_path / str(stage)
        euds.score(corpus, out=run_dir, measures=["information"])
        kept = euds.select(run_dir, keep=keep, rule="high", axes=["surprisal"]).row_ids.tolist()
        corpus = run_dir / "selected.parquet"
    page = write_report(run_dir).read_text()
    assert [f"<small>row {at} " in page.split("Dropped")[0] for at in range(10)] == [at in kept for at in range(10)]


def test_kept_rows_that_were_changed_are_no_part_of_a_report(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    euds.score(write_jsonl([{"text": text} for text in make_texts(9, 1)]), out=tmp_path, measures=["information"])
    euds.select(tmp_path, keep=4, rule="random")
    path = tmp_path / "selected.parquet"
    kept, written = pq.read_table(path), path.read_bytes()
    pq.write_table(kept.slice(1), path)
    with pytest.raises(
        InputError, match=r"selected.parquet: 3 rows, but selection.json counts 4; run euds select again"
    ):
        write_report(tmp_path)
    pq.write_table(kept.drop_columns(["row_id"]), path)
    with pytest.raises(InputError, match="have lost their column row_id; run euds select again"):
        write_report(tmp_path)
    path.write_text("text")
    with pytest.raises(InputError, match=r"selected.parquet: unreadable: .*; run euds select again"):
        write_report(tmp_path)
    pq.write_table(kept.set_column(0, "text", [["another"] * 4]), path)
    with pytest.raises(InputError, match=r"selected.parquet: .* was changed since; run euds select again"):
        write_report(tmp_path)
    path.write_bytes(written)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report.html: Is a directory"):
        write_report(tmp_path)


def test_keep_rates_are_those_of_the_selection(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, tiny_lm: Path
) -> None:
    # Without a BOS token, texts of one token have no generative entropy; the rule below does not ask for it.
    rows = [{"text": text, "label": "a"} for text in make_texts(30, 1)] + [{"text": "the", "label": "a"}] * 10
    run = euds.score(write_jsonl(rows), out=tmp_path, measures=["information", "generative"], lm=tiny_lm)
    assert run.n_quarantined == 10
    selection = euds.select(tmp_path, keep=20, rule="low", axes=["information"])
    assert gather(tmp_path, selection.row_ids, 0).rates == {"label": selection.record["keep_rate_by_label"]}
    assert selection.record["keep_rate_by_label"] == {"a": {"rows": 40, "kept": 20, "rate": 0.5}}


def test_rows_that_could_not_be_scored_are_neither_dropped_nor_part_of_the_pool(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, tiny_lm: Path
) -> None:
    sources = ("web", "book")
    rows: list[object] = [{"text": text, "source": sources[at % 2]} for at, text in enumerate(make_texts(20, 1))]
    # Texts of one token have no generative entropy, but the others; of a null there is no score at all.
    rows += [{"text": "the", "source": "web"}] * 10 + [{"text": None, "source": "book"}]
    euds.score(write_jsonl(rows), out=tmp_path, measures=["information", "generative"], lm=tiny_lm)
    selection = euds.select(tmp_path, keep=5, rule="random")
    content = gather(tmp_path, selection.row_ids, 40)
    assert {sample.row_id for sample in content.samples_dropped} == set(range(20)) - set(selection.row_ids.tolist())
    # Random rows are drawn from those that have every score, and the record is of these.
    assert content.length_correlation == selection.record["length_correlation"]
    assert content.shift == selection.record["source_shift"]


@pytest.mark.parametrize("change", ["moved", "changed"])
def test_without_its_corpus_a_run_has_a_report_without_texts(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(30, 1)])
    euds.score(corpus, out=tmp_path / "run", measures=["information"])
    euds.select(tmp_path / "run", keep=5, rule="random")
    assert ">Examples<" in write_report(tmp_path / "run").read_text()
    if change == "moved":
        corpus.rename(tmp_path / "elsewhere.jsonl")
    else:
        corpus.write_text('{"text": "another"}\n')
    capsys.readouterr()
    page = write_report(tmp_path / "run").read_text()
    assert "Scores and what was kept" in page
    assert ">Examples<" not in page
    reason = {"moved": "the scored corpus is no longer there", "changed": "has changed since it was scored"}[change]
    assert f"warning: the report shows no texts: {corpus}: {reason}" in capsys.readouterr().err
    # No text, no warning.
    write_report(tmp_path / "run", examples=0)
    assert capsys.readouterr().err == ""


def test_of_many_groups_the_largest_are_shown(tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts) -> None:
    rows = [{"text": text, "source": f"page {max(at, 9)}", "label": at} for at, text in enumerate(make_texts(60, 1))]
    euds.score(write_jsonl(rows), out=tmp_path / "run", measures=["information"], label_field="label")
    selection = euds.select(tmp_path / "run", keep=0.5, rule="random")
    rates: Any = selection.record["keep_rate_by_source"]
    assert rates["page 9"]["rows"] == 10
    assert sum(rate["kept"] for rate in rates.values()) == 30
    said = summary(selection)
    assert "page 9 " in said
    assert "(the 40 largest of 51)" in said
    assert "(the 40 largest of 60)" in said
    page = write_report(tmp_path / "run").read_text()
    assert page.count("The 40 largest of 51.") == 2
    assert page.count("<td>page 9</td>") == 1 + 2


@pytest.mark.filterwarnings("error")
def test_figures_take_labels_of_any_script_and_with_control_characters() -> None:
    names = ["電影", "фильм", "فيلم", "चलचित्र", "a\tb\nc\x01d\x1b[1m\ufffe", "<b>&", "long " * 20]
    picture = figures.rates("label", {name: {"rate": 0.5} for name in names}, 0.5)
    texts = ElementTree.fromstring(b64decode(picture.uri.partition(",")[2])).itertext()
    shown = {text.strip() for text in texts}
    assert {*names[:4], "<b>&"} <= shown
    assert "a\ufffdb\ufffdc\ufffdd\ufffd[1m\ufffd" in shown
    method = {"name": "m\x01", "rule": "low", "rows": 3, "metrics": {"f1": {"values": [1], "sd": None, "mean": 1}}}
    table = {"metrics": ["f1"], "methods": [method]}
    assert b"m\xef\xbf\xbd (3)" in b64decode(figures.study(table).uri.partition(",")[2])


def test_a_report_of_scores_alone_says_what_is_missing(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(30, 1)])
    euds.score(corpus, out=tmp_path / "run", measures=["information"])
    text = write_report(tmp_path / "run").read_text()
    assert "Nothing is selected yet" in text
    assert "Nothing has been fine-tuned" in text
    euds.select(tmp_path / "run", keep=5, rule="middle", axes=["surprisal"], adjust="log_length")
    assert "found on residuals" in write_report(tmp_path / "run").read_text()


def test_bounds_of_residuals_are_not_drawn_over_scores(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    euds.score(write_jsonl([{"text": text} for text in make_texts(30, 1)]), out=tmp_path, measures=["information"])
    for adjust, axes in ((None, ["surprisal_nats"]), ("log_length", [])):
        found = euds.select(tmp_path, keep=5, rule="middle", axes=["surprisal"], adjust=adjust)
        assert list(gather(tmp_path, found.row_ids, 0).bounds) == axes


def study_of(selected: Int64Array | None, *methods: tuple[str, str, float]) -> StudyTable:
    """A table of methods of given names, rules and budgets."""
    seconds, share = spread([2.0, 3.0]), {name: spread([0.7, 0.8]) for name in ("accuracy", "macro_f1")}
    rows = [StudyRow(name, rule, (), 3, keep, share, seconds, 0.0) for name, rule, keep in methods]
    config = TrainConfig("m").to_json()
    return StudyTable("classification", tuple(share), (0, 1), config, 30, 9, tuple(rows), rows_sha256(selected))


def test_a_study_of_an_earlier_selection_is_called_that(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    euds.score(write_jsonl([{"text": text} for text in make_texts(30, 1)]), out=tmp_path, measures=["information"])
    settings: dict[str, Any] = {"rule": "high", "axes": ["surprisal"]}
    selection = euds.select(tmp_path, keep=5, **settings)
    table = study_of(selection.row_ids[::-1], ("information", "high", 5 / 30)).to_json()
    said = "This study is of an earlier state of the run"
    write_json(tmp_path / "study" / "table.json", table)
    assert said not in write_report(tmp_path).read_text()
    euds.select(tmp_path, keep=6, **settings)
    assert said in write_report(tmp_path).read_text()
    # One of an earlier version does not say of which selection it is, nor how long the search took.
    del table["selection_sha256"], table["methods"][0]["search_seconds"]
    write_json(tmp_path / "study" / "table.json", table)
    assert said not in write_report(tmp_path).read_text()


def test_a_comparison_that_has_not_finished_is_called_that(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    euds.score(write_jsonl([{"text": "the film was sad"}] * 3), out=tmp_path, measures=["information"])
    for at, words in enumerate(("1 model has been fine-tuned so far", "2 models have been fine-tuned so far")):
        write_json(tmp_path / "study" / "cells" / f"{at}.json", {})
        page = write_report(tmp_path).read_text()
        assert words in page
        assert "Nothing has been fine-tuned" not in page
    write_json(tmp_path / "study" / "table.json", study_of(None, ("a", "high", 0.5)).to_json())
    assert "has not finished" not in write_report(tmp_path).read_text()


def test_characters_that_no_page_may_hold_are_shown_and_text_of_either_direction_stays_apart(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    labels = ["a\x00b", "ab", "\u202ebackwards", "a\x1bb"]
    corpus = write_jsonl([{"text": f"فيلم {at}", "label": label} for at, label in enumerate(labels)])
    euds.score(corpus, out=tmp_path / "run", measures=["information"], label_field="label")
    euds.select(tmp_path / "run", keep=2, rule="random")
    page = write_report(tmp_path / "run").read_bytes().decode()
    assert not set(page) & {"\x00", "\x1b"}
    assert {"<td>a\ufffdb</td>", "<td>ab</td>"} <= set(re.findall("<td>.*?</td>", page))
    assert " · <bdi>\u202ebackwards</bdi> · " in page
    assert page.count('<p dir="auto">فيلم ') == 4


def test_each_random_selection_has_its_dashed_line(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    euds.score(write_jsonl([{"text": "the film was sad"}] * 3), out=tmp_path, measures=["information"])
    one, few, many = ("high", "high", 0.16), ("random", "random", 0.0033), ("<more>", "random", 0.5)
    for methods, words in (
        ([one], "dots single seeds."),
        ([one, few], "dots single seeds; dashed lines: random at 0.33 %."),
        ([few, one, many], "dots single seeds; dashed lines: random at 0.33 %, &lt;more&gt; at 50 %."),
    ):
        table = study_of(None, *methods).to_json()
        write_json(tmp_path / "study" / "table.json", table)
        assert words in write_report(tmp_path).read_text()
        picture = b64decode(figures.study(table).uri.partition(",")[2])
        assert picture.count(b"stroke-dasharray: 4") == len(methods) - 1


def test_scores_that_are_all_equal_still_make_a_report(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}] * 5)
    euds.score(corpus, out=tmp_path / "run", measures=["information"])
    euds.select(tmp_path / "run", keep=2, rule="densest", axes=["information"])
    assert "constant" in write_report(tmp_path / "run").read_text()


def test_damaged_records_of_a_run_are_named(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    euds.score(write_jsonl([{"text": "the film was sad"}] * 5), out=tmp_path / "run", measures=["information"])
    euds.select(tmp_path / "run", keep=2, rule="random")
    record, table = tmp_path / "run" / "selection.json", tmp_path / "run" / "study" / "table.json"
    whole = read_json(record)
    damaged: list[Any] = [[], {"rule": "low"}, {**whole, "n_kept": "2"}]
    for content in damaged:
        write_json(record, content)
        with pytest.raises(InputError, match=r"selection.json: is no record of a selection; run euds select again"):
            write_report(tmp_path / "run")
    write_json(record, {**whole, "format": 2})
    with pytest.raises(InputError, match=r"selection.json: has format 2, and this euds reads 1; run euds select again"):
        write_report(tmp_path / "run")
    write_json(record, whole)
    write_json(table, {"metrics": []})
    with pytest.raises(InputError, match=r"table.json: is no table of a study; delete it, or run the recipe again"):
        write_report(tmp_path / "run")


def test_nobodys_settings_of_matplotlib_count_and_none_are_changed() -> None:
    def drawn() -> bytes:
        return figures.svg("salt", (3, 2), lambda figure: figure.add_subplot().plot([1, 3, 2], label="$a"))

    usual = drawn()
    with mpl.rc_context():
        mpl.style.use("dark_background")
        mpl.rcParams["text.usetex"] = True
        before = dict(mpl.rcParams)
        found: list[bytes] = []
        threads = [Thread(target=lambda: found.append(drawn())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [usual] * 4
        assert dict(mpl.rcParams) == before

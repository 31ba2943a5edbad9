"""What selections and reports read and write: fields that scoring did not read, files that belong together, models."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import euds
from euds.corpus import corpus_files, read_manifest, read_scores
from euds.errors import InputError
from euds.report import write_report
from euds.selection.features import RunTexts

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


@pytest.fixture
def bad_url(tmp_path: Path, make_texts: Texts) -> Path:
    """A run over a Parquet file whose field `url`, which scoring does not read, is not UTF-8 in row 3."""
    urls = pa.array([b"http://a", b"http://b", b"http://\xff", *[b"http://c"] * 27]).view(pa.string())
    pq.write_table(pa.table({"text": make_texts(30, 1), "url": urls, "n": range(30)}), tmp_path / "corpus.parquet")
    euds.score(tmp_path / "corpus.parquet", out=tmp_path / "run", measures=["information"])
    return tmp_path / "run"


@pytest.mark.parametrize("select", [euds.select, euds.select_streaming])
def test_a_field_that_scoring_did_not_read_spoils_no_selection_without_it(
    bad_url: Path, select: Callable[..., euds.Selection]
) -> None:
    select(bad_url, keep=1.0, rule="low", axes=["surprisal"], columns=["text", "n"])
    assert pq.read_table(bad_url / "selected.parquet").column("n").to_pylist() == list(range(30))
    assert "Scores and what was kept" in write_report(bad_url, examples=30).read_text()
    with pytest.raises(InputError, match=r"corpus.parquet, row 3: field 'url' is not UTF-8: .*; leave such a"):
        select(bad_url, keep=1.0, rule="low", axes=["surprisal"], columns=["text", "url"])


def test_texts_are_read_without_fields_that_scoring_did_not_read(bad_url: Path) -> None:
    manifest = read_manifest(bad_url)
    texts = RunTexts(manifest, corpus_files(manifest), read_scores(bad_url))._texts
    assert texts == pq.read_table(bad_url.parent / "corpus.parquet", columns=["text"]).column("text").to_pylist()

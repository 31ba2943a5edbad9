"""The front end of docs/front-ends.md does what the page says."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_score_resume import digests

import euds

PAGE = Path(__file__).parents[1] / "docs" / "front-ends.md"


@pytest.fixture
def job(write_jsonl: Callable[..., Path], make_texts: Callable[[int, int], list[str]]) -> Callable[..., Any]:
    """Make a job of the page's class on a corpus of 50 rows."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    corpus = write_jsonl([{"text": text} for text in make_texts(50, 3)])

    def make(out: Path, **settings: Any) -> Any:
        return names["Job"](corpus, out, measures="information", shard_rows=10, **settings)

    return make


def test_the_documented_front_end_works(job: Callable[..., Any], tmp_path: Path) -> None:
    finished, cancelled, failed = job(tmp_path / "a", n_clusters=4), job(tmp_path / "b"), job(tmp_path / "c", lm="none")
    cancelled.cancel.set()
    for each in (finished, cancelled, failed):
        each.start()
    for each in (finished, cancelled, failed):
        each.join()
    assert (finished.state, finished.result.n_scored) == ("finished", 50)
    assert (finished.progress.title, finished.progress.done, finished.progress.total) == ("finish", 50, 50)
    assert finished.messages == ["warning: no measure of this run uses: n_clusters"]
    assert (cancelled.state, cancelled.progress) == ("cancelled", None)
    assert failed.state.startswith("failed: model 'none': ")
    again = job(tmp_path / "b")
    again.run()
    assert again.state == "finished"
    assert digests(tmp_path / "b") == digests(tmp_path / "a")
    assert euds.status(tmp_path / "b").state == "finished"

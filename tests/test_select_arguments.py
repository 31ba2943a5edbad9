"""Arguments of selections in NumPy's types, or of none that will do, and what becomes of an earlier selection."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_score_resume import digests

import euds
from euds.errors import InputError, InvalidArgument
from euds.files import read_json

Select = Callable[..., euds.Selection]
BOTH = pytest.mark.parametrize("select", [euds.select, euds.select_streaming])


def choose(select: Select, run_dir: Path, **arguments: Any) -> euds.Selection:
    """Select by a box over information."""
    named: dict[str, Any] = {"keep": 10, "rule": "box", "axes": "information", "columns": ["text"]}
    return select(run_dir, **{**named, **arguments})


@BOTH
@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"keep": np.int64(10)}, {"keep": 10}),
        ({"keep": np.float32(0.2), "seed": np.int64(3)}, {"keep": 0.2, "seed": 3}),
        ({"bins": np.int32(8), "seed": np.uint8(1)}, {"bins": 8, "seed": 1}),
    ],
)
def test_numbers_of_numpy_are_as_pythons(
    whole: Path, select: Select, given: dict[str, Any], plain: dict[str, Any]
) -> None:
    found = choose(select, whole, **given).record
    expected = choose(select, whole, **plain).record
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}
    assert read_json(whole / "selection.json")["n_kept"] == expected["n_kept"]


def test_other_numbers_of_plain_selections_may_be_numpys(whole: Path) -> None:
    stable = choose(euds.select, whole, stability=np.int64(3)).record["stability"]
    assert isinstance(stable, dict)
    assert stable["n_replicates"] == 3


@BOTH
def test_one_name_may_stand_alone(whole: Path, select: Select) -> None:
    choose(select, whole, columns="uid")
    assert pq.read_table(whole / "selected.parquet").column_names[0] == "uid"
    choose(select, whole, rule="low", axes="surprisal")


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": "1"}, "seed: must be an integer, got '1'"),
        ({"seed": 1.5}, "seed: must be an integer, got 1.5"),
        ({"seed": None}, "seed: must be an integer, got None"),
        ({"bins": 8.5}, "bins: must be an integer, got 8.5"),
        ({"keep": np.float64("nan")}, "keep: give a fraction"),
        ({"keep": np.bool_(True)}, "keep: give a fraction"),
    ],
)
def test_other_types_are_named(whole: Path, select: Select, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        choose(select, whole, **arguments)


def test_a_stability_below_0_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for keep in ("auto", 0.2):
        with pytest.raises(InvalidArgument, match="stability: must be at least 0, got -1"):
            euds.select(tmp_path / "missing", keep=keep, rule="random", stability=-1)


@pytest.mark.parametrize("rule", ["random", "facility", "k_center"])
def test_no_stability_is_asked_of_a_rule_without_a_region(whole: Path, rule: str) -> None:
    with pytest.raises(InvalidArgument, match=f"stability: rule '{rule}' finds no region that could be stable"):
        choose(euds.select, whole, rule=rule, axes=None, stability=5)


def test_other_types_of_plain_selections_are_named(whole: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"stability: must be an integer, got 1\.5"):
        choose(euds.select, whole, stability=1.5)
    with pytest.raises(InvalidArgument, match="margin: must be a number, got '1'"):
        choose(euds.select, whole, keep="auto", margin="1")
    # Elsewhere it would say nothing.
    with pytest.raises(InvalidArgument, match="margin: is of keep 'auto'; leave it out"):
        choose(euds.select, whole, margin=0.01)


@BOTH
def test_what_cannot_be_recorded_takes_no_earlier_selections_place(
    whole: Path, select: Select, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(select, whole)
    before = digests(whole)
    monkeypatch.setattr("euds.selection.placing.json_content", lambda record: {}[record["rule"]])
    with pytest.raises(KeyError):
        choose(select, whole, keep=20)
    assert digests(whole) == before


@BOTH
def test_a_rule_that_the_run_cannot_serve_says_what_it_needs(whole: Path, select: Select) -> None:
    fixed = (
        r"^rule: 'igse' looks at information, generative, semantic, and the run has no generative_entropy_nats, "
        r"semantic_entropy_nats; take another rule, or score into a new directory, with measure generative, semantic "
        r"\(--semantic clusters\) \(texts .* if --cache was given\)$"
    )
    with pytest.raises(InputError, match=fixed):
        choose(select, whole, rule="igse", axes=None)
    with pytest.raises(
        InputError, match=r"^axes: the run has no nll_nats; take another score \(--axis\), or score into a"
    ):
        choose(select, whole, rule="low", axes=["nll"])


def test_typical_says_what_it_needs(whole: Path) -> None:
    with pytest.raises(InputError, match=r"^rule: 'typical' looks at nll, generative, and the run has no nll_nats"):
        choose(euds.select, whole, rule="typical", axes=None)


@BOTH
def test_a_count_of_one_is_told_from_all(whole: Path, select: Select, capsys: pytest.CaptureFixture[str]) -> None:
    for one in (1, "1", np.int64(1)):
        assert choose(select, whole, keep=one).n_kept == 1
        assert "warning: keep: 1 is a count and keeps one row; 1.0 keeps all" in capsys.readouterr().err
    for keep in (1.0, "1.0", 2):
        assert choose(select, whole, keep=keep).n_kept == (2 if keep == 2 else 150)
        assert "warning" not in capsys.readouterr().err

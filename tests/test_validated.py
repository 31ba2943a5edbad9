"""The rules that use labels: the search by a cheap trainee, its luck, and how much may be dropped."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import euds
from euds.errors import EudsError, InputError, InvalidArgument
from euds.ops.box import find_boxes
from euds.ops.luck import luck_bound
from euds.report import write_report
from euds.selection.curves import FRACTIONS, find_keep, fit_curve, fractions_of
from euds.selection.rules import Pool
from euds.selection.select import find_keep_of
from euds.selection.summary import summary
from euds.selection.trainee import Trainee, Trials
from euds.selection.validated import candidates_of, search_validated
from euds.types import Int64Array

WriteJsonl = Callable[..., Path]


def test_the_best_of_55_intervals_on_872_rows_looks_2_points_better_by_luck() -> None:
    assert 100 * luck_bound(55, 872, 0.9) == pytest.approx(2.3, abs=0.05)
    shares = np.random.default_rng(0).binomial(872, 0.9, (20_000, 55)) / 872
    assert luck_bound(55, 872, 0.9) == pytest.approx(shares.max(1).mean() - 0.9, abs=1e-3)
    assert luck_bound(1, 872, 0.9) == pytest.approx(0, abs=1e-9)
    assert luck_bound(9, 100, 1.0) == 0
    with pytest.raises(InvalidArgument, match="trials"):
        luck_bound(0, 10, 0.5)


def planted(n: int) -> tuple[Pool, Trainee]:
    """A pool on two axes; feature 0 tells the label, which is turned round for all that lie not lowest on axis a.

    A fifth, the validation split, keeps its right labels.
    """
    rng = np.random.default_rng(1)
    ranks = np.column_stack([rng.permutation(n), rng.permutation(n)]) / n
    features = rng.normal(size=(n, 4))
    right = (features[:, 0] > 0).astype(np.int64)
    validation = np.sort(rng.permutation(n)[: n // 5])
    fit = np.setdiff1d(np.arange(n), validation)
    labels = right.copy()
    labels[fit] = np.where(ranks[fit, 0] < 0.12, right[fit], 1 - right[fit])
    ids = 3 * np.arange(n)
    return Pool(("a", "b"), ranks, np.ones(n), ids), Judged(ids, features, labels, "planted", fit, validation)


@pytest.mark.parametrize(
    ("budget", "first", "second"), [(20, "0.05", "0.14"), (190, "0.475", "0.480"), (200, "0.50", "")]
)
def test_candidates_have_names_of_their_own(budget: int, first: str, second: str) -> None:
    pool, _ = planted(200)
    names = [candidate.name for candidate in candidates_of(pool, budget, seed=0, bins=4)]
    assert len(set(names)) == len(names)
    assert names[0] == f"a around rank {first}"
    assert names[1] == (f"a around rank {second}" if second else "b around rank 0.50")


def test_candidate_boxes_are_of_at_most_32_bins() -> None:
    pool, _ = planted(200)
    boxes = {}
    for bins in (8, 32, 64):
        found = candidates_of(pool, 60, seed=0, bins=bins)
        boxes[bins] = [one.region.kept.tolist() for one in found if one.name.startswith("box")]
        wanted = find_boxes(pool.values, keep=60, k=4, bins=min(bins, 32), ids=pool.row_ids)
        assert boxes[bins] == [box.indices.tolist() for box in wanted]
    assert boxes[8] != boxes[32]
    assert boxes[32][0] != find_boxes(pool.values, keep=60, k=4, bins=64, ids=pool.row_ids)[0].indices.tolist()


def test_the_planted_interval_wins_and_stands_beside_the_fixed_ones() -> None:
    pool, trainee = planted(2000)
    region, found = search_validated(pool, 200, trainee, seed=0, bins=16)
    assert len(np.unique(region.kept)) == 200
    assert found.chosen == "a around rank 0.05"
    assert found.accuracy > 0.95
    assert found.fixed.keys() == {"box", "middle a", "middle b", "random"}
    assert found.fixed["random"] < 0.5
    (side,) = region.bounds
    assert (side.axis, side.low) == ("a", 0.0)
    assert found.n_candidates == len(candidates_of(pool, 200, seed=0, bins=16)) <= 2 * 11 + 4
    half = -(-found.n_candidates // 2)
    assert found.n_trials == found.n_candidates + half + -(-half // 2) + 4
    fixed = float(np.mean(list(found.fixed.values())))
    assert found.luck == pytest.approx(luck_bound(found.n_trials, found.n_validation, fixed), abs=1e-12)
    assert json.loads(json.dumps(found.to_record())) == found.to_record()
    again, same = search_validated(pool, 200, trainee, seed=0, bins=16)
    assert (again.kept == region.kept).all()
    assert same.fixed == found.fixed


def test_no_region_is_judged_by_rows_that_it_trains_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, trainee = planted(400)
    n_trained = []

    def accuracy(trials: Trials, rows: Int64Array, validation: Int64Array) -> float:
        trials.count += 1
        n_trained.append(len(rows))
        assert not np.isin(rows, validation).any()
        return 0.5

    monkeypatch.setattr(Trials, "accuracy", accuracy)
    search_validated(pool, 100, trainee, seed=0, bins=8)
    # Of 100 rows some 80 lie outside the split; the first trials are on a quarter of them.
    assert 10 <= min(n_trained) <= 30 < 60 <= max(n_trained) <= 100


class Judged(Trainee):
    """A trainee with a split of the test's own."""

    def __init__(
        self, row_ids: Int64Array, features: object, labels: Int64Array, source: str, *split: Int64Array
    ) -> None:
        super().__init__(row_ids, features, labels, source)
        object.__setattr__(self, "given", split)

    def split(self, seed: int) -> tuple[Int64Array, Int64Array]:
        fit, validation = self.__dict__["given"]
        return fit, validation


def test_a_split_is_stratified_and_refused_when_there_is_too_little() -> None:
    labels = np.repeat([0, 1, 2, -1], [100, 50, 1, 30])
    trainee = Trainee(np.arange(181), np.ones((181, 2)), labels, "none")
    fit, validation = trainee.split(7)
    assert np.bincount(labels[validation]).tolist() == [20, 10]
    assert sorted([*fit, *validation]) == list(range(151))
    assert Trials(trainee).accuracy(np.arange(5), validation) == pytest.approx(2 / 3)
    for few in (labels[:60], np.zeros(500, np.int64), np.full(50, -1)):
        with pytest.raises(InputError, match="at least two classes"):
            Trainee(np.arange(len(few)), np.ones((len(few), 2)), few, "none").split(0)


@pytest.mark.parametrize(("scale", "exponent"), [(0.01, 0.6), (0.002, 1.5)])
def test_a_power_law_gives_back_the_smallest_part(scale: float, exponent: float) -> None:
    fractions = np.array([0.05, 0.1, 0.2, 0.4, 0.7])
    full = np.array([0.8, 0.82, 0.79])
    reached = full[:, None] - scale * (fractions**-exponent - 1)
    curve = fit_curve("low", fractions, reached, full, margin=0.005, seed=0)
    exact = (1 + 0.005 / scale) ** (-1 / exponent)
    assert curve.keep == pytest.approx(exact, rel=0.05)
    assert curve.keep is not None
    assert scale * (curve.keep**-exponent - 1) < 0.0055
    # Rounded upwards: never beyond the margin by the curve itself.
    near = fit_curve("low", fractions, reached, full, margin=0.004, seed=0)
    assert near.keep is not None
    assert near.scale * (near.keep**-near.exponent - 1) <= 0.004
    assert fit_curve("low", fractions, reached, full, margin=1e-6, seed=0).keep is None
    better = fit_curve("low", fractions, full[:, None] + np.zeros((1, 5)), full, margin=0.005, seed=0)
    assert better.keep == pytest.approx(0.05)
    unsure = reached + np.array([[0.02], [-0.02], [0.0]])
    less = fit_curve("low", fractions, unsure, full, margin=0.005, seed=0).keep
    assert less is not None
    assert less > curve.keep


def test_keep_is_smaller_where_rows_repeat_each_other() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    labels = rng.integers(0, 2, n)
    easy = rng.normal(size=(n, 3)) + 4 * labels[:, None]
    wide = rng.normal(size=(n, 300)) * 0.5
    wide[:, :40] += 0.35 * labels[:, None]
    keeps = []
    drawn = set()
    for features in (easy, wide):
        trainee = Trainee(np.arange(n), features, labels, "planted")

        def choose_rows(rule: str, fraction: float, seed: int) -> Int64Array:
            drawn.add((rule, seed))
            return np.sort(np.random.default_rng(seed).permutation(n)[: int(fraction * n)])

        found = find_keep(trainee, choose_rows, "middle", n_rows=n, margin=0.01, seed=0)
        assert json.loads(json.dumps(found.to_record())) == found.to_record()
        assert [curve.rule for curve in found.curves] == ["middle", "random"]
        assert found.n_trials == 5 * (1 + 2 * len(found.curves[0].fractions))
        keeps.append(found.keep or 1.0)
    assert keeps[0] < 0.1 < 0.15 < keeps[1]
    # Random rows are others for every split.
    assert drawn == {("middle", 0), *(("random", seed) for seed in range(5))}
    with pytest.raises(InputError, match="too few for learning curves"):
        find_keep(trainee, choose_rows, "middle", n_rows=40, margin=0.01, seed=0)
    for margin in (0, 1, float("nan")):
        with pytest.raises(InvalidArgument, match="margin: must be above 0 and below 1"):
            find_keep(trainee, choose_rows, "middle", n_rows=n, margin=margin, seed=0)


def test_learning_curves_need_20_rows_to_train_on_at_three_fractions() -> None:
    # A fifth of the pool validates: 0.2904 of the others are 20 rows in a pool of 87.
    assert fractions_of(87) == FRACTIONS[-3:] == (0.2904, 0.4509, 0.7)
    with pytest.raises(InputError, match="keep: 86 rows are too few for learning curves"):
        fractions_of(86)


def scored_run(tmp_path: Path, write_jsonl: WriteJsonl, embedder: Path | None) -> Path:
    rng = np.random.default_rng(4)
    words = ("wonderful funny music story film", "terrible dull plot ending sad")
    rows: list[object] = []
    for at in range(240):
        own = [*words[at % 2].split(), "the", "a", "of", "it", "we"]
        rows.append({"text": " ".join(rng.choice(own, int(rng.integers(2, 12)))), "label": f"class {at % 2}"})
    rows[5] = {"text": None, "label": "class 1"}
    run_dir = tmp_path / "run"
    measures = ["information"] if embedder is None else ["information", "semantic"]
    euds.score(write_jsonl(rows), out=run_dir, measures=measures, embedder=None if embedder is None else str(embedder))
    return run_dir


@pytest.mark.parametrize("embedded", [False, True])
def test_select_validates_and_records_that_labels_were_used(
    tmp_path: Path, write_jsonl: WriteJsonl, tiny_encoder: Path, embedded: bool
) -> None:
    run_dir = scored_run(tmp_path, write_jsonl, tiny_encoder if embedded else None)
    selection = euds.select(run_dir, keep=0.3, rule="validated")
    assert selection.n_kept == 72
    record = json.loads((run_dir / "selection.json").read_text())
    assert record["uses_labels"] is True
    assert record["bins"] == 32
    assert ("embeddings by" if embedded else "TF-IDF") in record["validated"]["trainee"]
    assert ("box" in record["validated"]["fixed"]) == embedded
    assert "labels were used" in summary(selection)
    assert "the same quantiles of 100 resampled pools" in summary(selection)
    assert [side["axis"] for side in record["stability"]["sides"]] == [side["axis"] for side in record["bounds"]]
    for side, bounds in zip(record["stability"]["sides"], record["bounds"], strict=True):
        assert side["low"][0] <= bounds["low"] + 0.3
        assert bounds["high"] - 0.3 <= side["high"][2]
    assert "The quantiles of the winner again" in write_report(run_dir).read_text()
    assert "labels" in write_report(run_dir).read_text()
    plain = euds.select(run_dir, keep=0.3, rule="random")
    assert plain.record["uses_labels"] is False
    automatic = euds.select(run_dir, keep="auto", rule="middle", axes=["information"], margin=0.05)
    record = json.loads((run_dir / "selection.json").read_text())
    assert record["uses_labels"] is True
    assert record["keep"] == (record["keep_auto"]["keep"] or 1.0)
    assert automatic.n_kept == int(np.ceil(round(record["keep"] * 239, 6)))
    assert "keep auto" in summary(automatic)
    assert "How much may be dropped?" in write_report(run_dir).read_text()
    # Random, which stands beside the rule, has no score to adjust.
    adjusted = euds.select(
        run_dir, keep="auto", rule="middle", axes=["information"], adjust="log_length", margin=0.05, stability=0
    )
    assert adjusted.record["adjust"] == "log_length"


def test_the_command_line_says_how_much_may_be_dropped(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    run_dir = scored_run(tmp_path, write_jsonl, None)
    command = [sys.executable, "-m", "euds", "select", str(run_dir), "--keep", "auto", "--margin", "0.05"]
    finished = subprocess.run([*command, "--rule", "random"], capture_output=True, text=True, check=True)
    assert "keep auto: within 5 points of full data" in finished.stdout
    assert "labels were used" in finished.stdout


def test_what_cannot_be_validated_is_named(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    run_dir = scored_run(tmp_path, write_jsonl, None)
    bad: list[tuple[dict[str, object], str]] = [
        ({"rule": "validated", "group_by": "label"}, "searches the whole pool"),
        ({"rule": "validated", "keep": "auto"}, "does not search by labels"),
        ({"rule": "validated", "axes": ["generative"]}, "the run has no generative"),
        ({"rule": "random", "keep": "auto", "margin": 2}, "margin"),
    ]
    for arguments, message in bad:
        with pytest.raises(EudsError, match=message):
            euds.select(run_dir, **{"keep": 0.2, **arguments})  # type: ignore[arg-type]  # Wrong on purpose.
    rows = [{"text": f"the film {at}"} for at in range(30)]
    euds.score(write_jsonl(rows, "plain.jsonl"), out=tmp_path / "plain", measures=["information"])
    with pytest.raises(InputError, match="need labels"):
        euds.select(tmp_path / "plain", keep="auto", rule="random")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "validated", "keep": 0.3}, "a fifth of the 84 labelled rows gives 16; choose"),
        ({"rule": "k_center", "keep": "auto"}, "keep: 84 rows are too few for learning curves"),
    ],
)
def test_labels_too_few_are_refused_before_anything_is_embedded(
    tmp_path: Path,
    write_jsonl: WriteJsonl,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    message: str,
) -> None:
    corpus = write_jsonl([{"text": f"the film {at}", "label": at % 2} for at in range(84)])
    euds.score(corpus, out=tmp_path / "run", measures=["semantic"], embedder=str(tiny_encoder))
    monkeypatch.setattr("euds.selection.features.embed_texts", lambda *_: pytest.fail("embedded"))
    with pytest.raises(InputError, match=message):
        euds.select(tmp_path / "run", **arguments)


def test_random_beside_a_rule_draws_from_the_rows_of_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 100
    missing = np.arange(n) % 4 == 0
    table = pa.table(
        {
            "row_id": np.arange(n),
            "label": ["a", "b"] * 50,
            "source": [None] * n,
            "n_tokens": np.arange(n) + 2,
            "information_entropy_nats": np.linspace(1, 2, n),
            "generative_entropy_nats": pa.array(np.linspace(1, 2, n), mask=missing),
        }
    )
    taken: dict[str, Any] = {}
    monkeypatch.setattr("euds.selection.select.find_keep", lambda trainee, rows, *_, **__: taken.update(rows=rows))
    settings = {"axes": ["information"], "group_by": None, "adjust": None, "bins": None}
    for axis, n_rows in (("information", 100), ("generative", 75)):
        trainee: Any = None
        find_keep_of("low", trainee, table, {**settings, "axes": [axis]}, margin=0.01, seed=0)
        both = [set(taken["rows"](name, 0.4, 0).tolist()) for name in ("low", "random")]
        assert [len(rows) for rows in both] == [0.4 * n_rows] * 2
        assert (axis == "information") == bool(both[1] & set(np.flatnonzero(missing).tolist()))


def test_auto_that_takes_random_rows_keeps_as_many_as_random() -> None:
    rng = np.random.default_rng(0)
    n = 300
    labels = rng.integers(0, 2, n)
    scores = pa.table(
        {
            "row_id": np.arange(n),
            "label": labels.astype(str),
            "source": [None] * n,
            "n_tokens": rng.integers(2, 9, n),
            "nll_nats": rng.random(n),
        }
    )
    features = rng.normal(size=(n, 8)) + 0.8 * labels[:, None]
    trainee = Trainee(np.arange(n), features, labels, "planted")
    settings = {"axes": None, "group_by": None, "adjust": None, "bins": None}
    auto, random = (find_keep_of(rule, trainee, scores, settings, margin=0.05, seed=0) for rule in ("auto", "random"))
    assert [curve.rule for curve in auto.curves] == ["random"]
    assert auto.curves == random.curves

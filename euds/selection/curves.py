"""`keep="auto"`: how much may be dropped, by learning curves of the cheap trainee; it uses labels."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from euds.errors import InputError, InvalidArgument, real_number
from euds.selection.trainee import PROBE, VALIDATION_SHARE, Trainee, Trials
from euds.types import Float64Array, Int64Array

FRACTIONS = tuple(np.geomspace(0.05, 0.7, 7).round(4).tolist())
LARGEST_KEEP = 0.95
"""Dropping less than a twentieth is not worth a selection: beyond it the answer is that no part will do."""

MIN_ROWS = 20
CONFIDENCE = 0.95
SPLITS = 5
RESAMPLES = 1000
EXPONENTS = np.linspace(0.05, 3, 60)

ChooseRows = Callable[[str, float, int], Int64Array]
"""(rule, fraction, seed) -> ids of the kept rows."""


@dataclass(frozen=True)
class LearningCurve:
    """What the trainee reaches on parts of the pool chosen by one rule, all of it in plain types.

    Attributes:
        rule: name of the rule.
        fractions: parts of the pool kept.
        accuracy: mean over splits, in 0..1, for each fraction.
        loss: mean accuracy on the full pool minus that, paired by split.
        loss_sd: standard deviation of the loss over splits.
        scale, exponent: of the fitted loss, scale (f^-exponent - 1), which is 0 for the full pool.
        keep: smallest fraction whose loss stays within the margin at the stated confidence, or None.
    """

    rule: str
    fractions: tuple[float, ...]
    accuracy: tuple[float, ...]
    loss: tuple[float, ...]
    loss_sd: tuple[float, ...]
    scale: float
    exponent: float
    keep: float | None


@dataclass(frozen=True)
class KeepChoice:
    """How much may be dropped, and what that rests on.

    Attributes:
        keep: the answer for the rule, or None: no part of the pool stays within the margin.
        margin: loss of accuracy against the full pool that counts as none, in 0..1.
        confidence: share of bootstrap curves that must stay within it; splits overlap, so it is less sure than that.
        full_accuracy: mean on the full pool.
        n_splits: validation splits, each of `n_validation` rows.
        n_trials: probes trained.
        seconds: of the whole search, the rule's choices among it.
        trainee: what the probe is and what it reads.
        curves: of the rule, then of random.
    """

    keep: float | None
    margin: float
    confidence: float
    full_accuracy: float
    n_splits: int
    n_validation: int
    n_trials: int
    seconds: float
    trainee: str
    curves: tuple[LearningCurve, ...]

    def to_record(self) -> dict[str, Any]:
        """Return it as selection.json holds it."""
        record = asdict(self)
        curves = [{key: _plain(value) for key, value in curve.items()} for curve in record["curves"]]
        return {**record, "curves": curves}


def find_keep(
    trainee: Trainee, choose_rows: ChooseRows, rule: str, *, n_rows: int, margin: float, seed: int
) -> KeepChoice:
    """Find the smallest part of the pool that the trainee can do with.

    On each of five splits a probe is trained on the full pool and on parts of it, chosen by the rule and by random;
    the losses follow a power law, fitted by least squares, and resampling the splits tells how sure it is.

    Args:
        trainee: features and labels.
        choose_rows: chooses a part of the pool.
        rule: the rule in question.
        n_rows: rows of the pool.
        margin: loss that counts as none, above 0 and below 1.
        seed: of the splits, the random parts and the resampling.

    Raises:
        InvalidArgument: the margin is out of its range.
        InputError: the pool is too small for a split, or for three different parts.
    """
    margin = check_margin(margin)
    start = time.perf_counter()
    fractions = fractions_of(n_rows)
    trials = Trials(trainee)
    splits = [trainee.split(seed + at) for at in range(SPLITS)]
    full = np.array([trials.accuracy(fit, validation) for fit, validation in splits])
    curves = []
    for name in dict.fromkeys((rule, "random")):
        reached = np.zeros((SPLITS, len(fractions)))
        # Only random draws anew for every split; the other rules take one draw of ties or of a first row.
        kept = [] if name == "random" else [choose_rows(name, fraction, seed) for fraction in fractions]
        for at, (fit, validation) in enumerate(splits):
            for place, fraction in enumerate(fractions):
                rows = trainee.positions(kept[place] if kept else choose_rows(name, fraction, seed + at))
                reached[at, place] = trials.accuracy(np.intersect1d(rows, fit), validation)
        curves.append(fit_curve(name, np.array(fractions), reached, full, margin=margin, seed=seed))
    return KeepChoice(
        keep=curves[0].keep,
        margin=margin,
        confidence=CONFIDENCE,
        full_accuracy=float(full.mean()),
        n_splits=SPLITS,
        n_validation=len(splits[0][1]),
        n_trials=trials.count,
        seconds=round(time.perf_counter() - start, 3),
        trainee=f"{PROBE}, on {trainee.source}",
        curves=tuple(curves),
    )


def fractions_of(n_rows: int) -> tuple[float, ...]:
    """Return the parts of a pool that curves are drawn through.

    Raises:
        InputError: the pool is too small for three different ones.
    """
    n_fit = n_rows * (1 - VALIDATION_SHARE)
    fractions = tuple(fraction for fraction in FRACTIONS if fraction * n_fit >= MIN_ROWS)
    if len(fractions) < 3:
        raise InputError(f"keep: {n_rows} rows are too few for learning curves; give a fraction or a count")
    return fractions


def check_margin(margin: float) -> float:
    """Return a margin as Python's float.

    Raises:
        InvalidArgument: it is no number, or not above 0 and below 1.
    """
    margin = real_number("margin", margin)
    if not 0 < margin < 1:
        raise InvalidArgument(f"margin: must be above 0 and below 1, 0.005 for half a point, got {margin}")
    return margin


def fit_curve(
    rule: str, fractions: Float64Array, reached: Float64Array, full: Float64Array, *, margin: float, seed: int
) -> LearningCurve:
    """Fit the losses of a rule, and find the smallest part within the margin.

    Args:
        rule: name of the rule.
        fractions: (f,) ascending, below 1.
        reached: (splits, f) accuracies.
        full: (splits,) accuracies on the full pool.
        margin: loss that counts as none.
        seed: of the resampling of splits.
    """
    losses = full[:, None] - reached
    scale, exponent = _power_law(fractions, losses.mean(0)[None])
    rng = np.random.default_rng(seed)
    drawn = losses[rng.integers(0, len(full), (RESAMPLES, len(full)))].mean(1)
    scales, exponents = _power_law(fractions, drawn)
    tried = np.geomspace(fractions[0], LARGEST_KEEP, 200)
    predicted = scales[:, None] * (tried[None] ** -exponents[:, None] - 1)
    within = np.flatnonzero(np.quantile(predicted, CONFIDENCE, axis=0) <= margin)
    return LearningCurve(
        rule=rule,
        fractions=tuple(fractions.tolist()),
        accuracy=tuple(reached.mean(0).tolist()),
        loss=tuple(losses.mean(0).tolist()),
        loss_sd=tuple(losses.std(0, ddof=1).tolist()),
        scale=float(scale[0]),
        exponent=float(exponent[0]),
        # Upwards, so that the rounded fraction is still within the margin.
        keep=float(np.ceil(1000 * tried[within[0]]) / 1000) if len(within) else None,
    )


def _power_law(fractions: Float64Array, losses: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return scale >= 0 and exponent of the least-squares loss = scale (f^-exponent - 1) for each row of losses."""
    shapes = fractions[None] ** -EXPONENTS[:, None] - 1
    scales = np.maximum(losses @ shapes.T / (shapes**2).sum(1), 0)
    errors = ((losses[:, None] - scales[:, :, None] * shapes[None]) ** 2).sum(2)
    best = errors.argmin(1)
    return scales[np.arange(len(losses)), best], EXPONENTS[best]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

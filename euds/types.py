"""The results that public functions return, as frozen dataclasses."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TokenStats:
    """Statistics of next-token distributions, one value per position; float32, natural logarithm.

    Attributes:
        entropy: -sum p ln p, nats, in 0..ln V.
        varentropy: sum p (ln p + entropy)^2, nats^2, >= 0; None when it was not asked for.
        logsumexp: ln sum exp(logit / temperature), nats.
        max_prob: largest probability, in 1/V..1.
        target_logprob: ln p(target), nats, <= 0; None when no targets were given, NaN where the target is ignored.
    """

    entropy: "torch.Tensor"
    varentropy: "torch.Tensor | None"
    logsumexp: "torch.Tensor"
    max_prob: "torch.Tensor"
    target_logprob: "torch.Tensor | None" = None


def _json_object(text: str) -> dict[str, Any]:
    """Return the object that a text of JSON is; of anything else, TypeError."""
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise TypeError(f"must be an object of JSON, got {type(fields).__name__}")
    return fields


@dataclass(frozen=True, eq=False)
class _Region:
    """What intervals and boxes share: the rows kept, and JSON.

    Attributes:
        indices: positions of the kept rows, ascending, int64.
    """

    indices: Int64Array = field(repr=False, kw_only=True)

    @property
    def n_kept(self) -> int:
        """Number of rows kept."""
        return len(self.indices)

    def to_json(self, *, indices: bool = True) -> str:
        """Return all fields as one JSON object; without the indices it stays small, whatever the pool."""
        fields = asdict(self)
        fields["indices"] = self.indices.tolist() if indices else None
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote: the same numbers; without indices it has kept no rows.

        Raises:
            ValueError: the text is no JSON.
            TypeError: its fields are not those of this class.
        """
        fields = _json_object(text)
        places = np.array(fields.pop("indices", None) or [], np.int64)
        return cls(indices=places, **{key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()})


@dataclass(frozen=True, eq=False)
class Interval(_Region):
    """The samples that one rule kept on one axis.

    Attributes:
        rule: name of the rule.
        low, high: smallest and largest score inside the found region, in the unit of the scores, both inclusive.
        low_rank, high_rank: the same bounds as mid-rank percentiles of the finite scores, in 0..1.
        n_scores: finite scores searched.
        n_left_out: NaN or infinite scores, never kept.
        n_in_region: scores inside the region before trimming, >= n_kept.
        utility: sum of the utility inside the region, or None when none was given.
        indices: positions of the kept scores, ascending, int64, exactly `n_kept` of them; none for an interval of a
            histogram, which knows no rows.
    """

    rule: str
    low: float
    high: float
    low_rank: float
    high_rank: float
    n_scores: int
    n_left_out: int
    n_in_region: int
    utility: float | None = None

    def __str__(self) -> str:
        worth = "" if self.utility is None else f", utility {self.utility:.6g}"
        return (
            f"{self.rule}: {self.low:.6g} .. {self.high:.6g} (ranks {self.low_rank:.3f} .. {self.high_rank:.3f}), "
            f"{self.n_kept} kept of {self.n_in_region} inside of {self.n_scores}{worth}"
        )


@dataclass(frozen=True, eq=False)
class Box(_Region):
    """The samples inside the axis-aligned box that the search found, d = 1 to 3 axes.

    Attributes:
        low, high: bounds per axis in the unit of the scores, both inclusive.
        low_rank, high_rank: the edges of the box per axis as fractions of the searched rows, in 0..1.
        bins: equal-mass bins asked for per axis.
        n_scores: rows with every axis finite.
        n_left_out: rows with a NaN or infinite score on any axis, never kept.
        n_in_region: rows inside the box before trimming, >= n_kept.
        volume: rank volume, product over axes of the share of rows between the bounds, in 0..1.
        lift: n_in_region / (n_scores * volume); above 1 the axes agree more than independence allows.
        utility: sum of the utility inside the box, or None when none was given.
        objective: what the box is the best of: "volume", "utility" or "lift".
        indices: positions of the kept rows, ascending, int64; none for a box of a histogram, which knows no rows.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    low_rank: tuple[float, ...]
    high_rank: tuple[float, ...]
    bins: int
    n_scores: int
    n_left_out: int
    n_in_region: int
    volume: float
    lift: float
    utility: float | None
    objective: str = "volume"

    def __str__(self) -> str:
        sides = zip(self.low, self.high, self.low_rank, self.high_rank, strict=True)
        bounds = " x ".join(f"{low:.6g} .. {high:.6g} (ranks {a:.3f} .. {b:.3f})" for low, high, a, b in sides)
        worth = "" if self.utility is None else f", utility {self.utility:.6g}"
        return (
            f"best {self.objective}: {bounds}, volume {self.volume:.4g}, lift {self.lift:.4g}{worth}, "
            f"{self.n_kept} kept of {self.n_in_region} inside of {self.n_scores}"
        )


@dataclass(frozen=True, eq=False)
class Intersection(_Region):
    """The samples whose ranks all lie near the median, d >= 1 axes.

    Attributes:
        low, high: smallest and largest score inside the region per axis, in the unit of the scores.
        low_rank, high_rank: the same as mid-rank percentiles, in 0..1.
        reach: largest distance of a mid-rank from 1/2, the same for all axes, in 0..0.5.
        n_scores: rows with every axis finite.
        n_left_out: rows with a NaN or infinite score on any axis, never kept.
        n_in_region: rows inside the region before trimming, >= n_kept.
        volume: product over axes of the share of rows within the reach, in 0..1.
        lift: n_in_region / (n_scores * volume); above 1 the axes agree more than independence allows.
        indices: positions of the kept rows, ascending, int64.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    low_rank: tuple[float, ...]
    high_rank: tuple[float, ...]
    reach: float
    n_scores: int
    n_left_out: int
    n_in_region: int
    volume: float
    lift: float

    def __str__(self) -> str:
        sides = zip(self.low, self.high, strict=True)
        bounds = " x ".join(f"{low:.6g} .. {high:.6g}" for low, high in sides)
        return (
            f"intersection: {bounds}, ranks within {self.reach:.3f} of the median, lift {self.lift:.4g}, "
            f"{self.n_kept} kept of {self.n_in_region} inside of {self.n_scores}"
        )


Quantiles = tuple[float, float, float]
"""The 5 %, 50 % and 95 % quantiles."""


@dataclass(frozen=True)
class BoundSpread:
    """Where the bounds of a region on one axis lie in resampled pools, in the axis' unit and in ranks of the pool."""

    low: Quantiles
    high: Quantiles
    low_rank: Quantiles
    high_rank: Quantiles


@dataclass(frozen=True)
class Stability:
    """How much a region depends on which rows happened to be in the pool.

    Attributes:
        overlap: mean over replicates of the rows in both regions over the rows in either (Jaccard), in 0..1; 1 for two
            regions without a row.
        overlap_quantiles: its 5 %, 50 % and 95 % quantiles.
        sides: the spread of the bounds, one entry an axis.
        n_replicates: resampled pools.
        seed: of the resampling.
        bins: equal-mass bins per axis on which regions were searched again; bounds are no finer than they.
    """

    overlap: float
    overlap_quantiles: Quantiles
    sides: tuple[BoundSpread, ...]
    n_replicates: int
    seed: int
    bins: int

    def __str__(self) -> str:
        low, _, high = self.overlap_quantiles
        return f"overlap {self.overlap:.2f} ({low:.2f} .. {high:.2f}) over {self.n_replicates} resampled pools"

    def to_json(self) -> str:
        """Return all fields as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote: the same numbers.

        Raises:
            ValueError: the text is no JSON.
            TypeError: its fields are not those of this class.
        """
        fields = _json_object(text)
        found = fields.pop("sides", ())
        sides = [BoundSpread(**{name: tuple(bounds) for name, bounds in dict(side).items()}) for side in found]
        quantiles = tuple(fields.pop("overlap_quantiles", ()))
        return cls(sides=tuple(sides), overlap_quantiles=quantiles, **fields)


@dataclass(frozen=True)
class ScoreResult:
    """What `euds.score` did; the scores themselves lie in `run_dir`/scores.

    Attributes:
        run_dir: the run directory.
        n_rows: rows read, equal to n_scored + n_quarantined.
        n_scored: rows with every measure present.
        n_quarantined: rows listed in quarantine.jsonl, each once.
        n_truncated: scored rows whose text was longer than the model reads.
        n_tokens: tokens of the scored rows, padding not counted.
        seconds: wall-clock seconds by stage, summed over workers; a resumed run adds to them. What they leave out is in
            docs/scale.md.
        tokens_per_second: n_tokens over all seconds; 0.0 if no token was counted.
        already_finished: whether the run was finished before, so that nothing was computed; seconds are those of then.
    """

    run_dir: Path
    n_rows: int
    n_scored: int
    n_quarantined: int
    n_truncated: int
    n_tokens: int
    seconds: Mapping[str, float]
    tokens_per_second: float
    already_finished: bool = False


@dataclass(frozen=True)
class AxisBounds:
    """The region of a selection on one axis.

    Attributes:
        axis: the score column.
        low, high: smallest and largest score inside, in the axis' unit; with `adjust` of the scores' residuals on ln
            tokens.
        low_rank, high_rank: their mid-rank percentiles, in 0..1; of a box the shares of the rows below its lower and
            its upper edge.
    """

    axis: str
    low: float
    high: float
    low_rank: float
    high_rank: float


@dataclass(frozen=True, eq=False)
class Selection:
    """What `euds.select` kept and why; `record` is exactly what selection.json holds.

    Attributes:
        row_ids: ids of the kept rows, ascending, int64.
        rule: the rule by name.
        axes: the score columns that the rule looked at.
        n_rows: rows that could be chosen from (every needed score present).
        bounds: the region, one entry an axis; empty for rules without one, per group under `record["groups"]`.
        record: the whole selection record, made of plain JSON types.
    """

    row_ids: Int64Array
    rule: str
    axes: tuple[str, ...]
    n_rows: int
    bounds: tuple[AxisBounds, ...]
    record: Mapping[str, Any]

    @property
    def n_kept(self) -> int:
        """Number of rows kept."""
        return len(self.row_ids)

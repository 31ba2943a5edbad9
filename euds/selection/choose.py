"""Choose rows of a scores table by a rule, whole or group by group."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from euds.errors import InputError, InvalidArgument, one_of, whole_number
from euds.ops.histogram import MAX_AXES
from euds.ops.keep import Keep, check_keep, number_of, parse_keep, split_budget
from euds.ops.stability import BINS as STABILITY_BINS
from euds.ops.stability import STABLE_RULES, quantile_stability, region_stability
from euds.selection.auto import EVIDENCE_AXIS, decide
from euds.selection.axes import ENTROPIES, axis_columns, score_columns, values_of, without_length
from euds.selection.describe import describe, groups_of
from euds.selection.features import Embedded
from euds.selection.rules import (
    AUTO_RULE,
    BOX_RULES,
    COVERAGE_RULES,
    FIXED_AXES,
    RULES,
    SEARCHED_RULES,
    VALIDATED,
    Pool,
    Region,
    apply_rule,
    axes_for,
    bins_for,
    search_of,
)
from euds.selection.trainee import Trainee
from euds.selection.validated import MAX_BOX_BINS, Validation, search_validated
from euds.types import Float32Array, Int64Array, Selection, Stability

GROUPS = ("label", "source")
ADJUSTMENTS = ("log_length",)
SEARCHES = {
    **dict.fromkeys(BOX_RULES, "smallest box of equal-mass bins (C++, exact)"),
    "densest": "shortest interval of values (C++, exact)",
    "random": "seeded hash of the row id",
    "k_center": "greedy k-center on the embeddings (Gonzalez)",
    "facility": "lazy greedy facility location on the embeddings",
    VALIDATED: "successive halving over intervals and boxes by a linear probe; uses labels",
}

NOTHING = Region(np.empty(0, np.int64), (), 0)
"""Of a group that is too small for a row of the budget."""


def check_choice(
    *,
    keep: Keep,
    rule: str,
    axes: Sequence[str] | None,
    group_by: str | None,
    adjust: str | None,
    bins: int | None,
) -> tuple[str, ...]:
    """Refuse an impossible choice before any score is read, and return the axes that the rule looks at.

    Raises:
        InvalidArgument: a name is unknown, or keep, axes, groups, adjustment or bins do not suit the rule.
    """
    one_of("rule", rule, (*RULES, *COVERAGE_RULES, *SEARCHED_RULES))
    check_keep(keep)
    if rule == VALIDATED and group_by is not None:
        raise InvalidArgument("group_by: rule 'validated' searches the whole pool; leave group_by out")
    if group_by is not None:
        one_of("group_by", group_by, GROUPS)
    if adjust is not None:
        one_of("adjust", adjust, ADJUSTMENTS)
        if rule == AUTO_RULE:
            raise InvalidArgument("adjust: rule 'auto' settles itself what it looks at; name a rule with it")
        if FIXED_AXES.get(rule) == ():
            raise InvalidArgument(f"adjust: rule {rule!r} looks at no score that could be adjusted; leave it out")
    bins_for(rule, bins)
    return axes_for(rule, axes)


def choose(
    scores: pa.Table,
    *,
    keep: Keep,
    rule: str,
    axes: Sequence[str] | None = None,
    seed: int = 0,
    group_by: str | None = None,
    adjust: str | None = None,
    bins: int | None = None,
    stability: int = 0,
    trainee: Trainee | None = None,
    embedded: Embedded | None = None,
    pairs: bool = False,
) -> Selection:
    """Choose rows of a scores table; see `euds.select` for the rules.

    Args:
        scores: as `read_scores` gives it; rows that lack a score the rule needs are left out.
        keep: fraction in (0, 1] (float) or count (int) of the rows that have the scores.
        rule: one of `RULES` and `COVERAGE_RULES`, "auto" or "validated".
        axes: scores to look at, by short or column name; only for rules that leave the choice.
        seed: of ties, trimming and `random`.
        group_by: "label" or "source": the same rule inside each group, budgets in proportion.
        adjust: "log_length": replace each axis by its residual on ln(n_tokens) first.
        bins: equal-mass bins per axis, of rules that search a box; None: 64. "validated" searches its
            boxes on at most 32.
        stability: resampled pools that show how far the region moves; 0: none.
        trainee: for the rule `validated`.
        embedded: for the rules that cover embeddings, and for "auto", which then is one of them; rows without an
            embedding are left out.
        pairs: whether the texts are pairs of fields, for "auto".

    Returns:
        Exactly b rows and the record of how they were found.

    Raises:
        InvalidArgument: an argument is impossible.
        InputError: the table lacks a score or a group that is asked for, or no row has the scores.
    """
    start = time.perf_counter()
    seed, stability = whole_number("seed", seed), whole_number("stability", stability, least=0)
    named = check_choice(keep=keep, rule=rule, axes=axes, group_by=group_by, adjust=adjust, bins=bins)
    n_bins = bins_for(rule, bins)
    columns, places, embeddings = _pool_of(rule, named, scores, embedded, pairs)
    usable = scores.take(places)
    pool = replace(_pool(usable, columns, adjust), embeddings=embeddings)
    budget = parse_keep(keep, len(places))
    decision = decide(pool) if rule == AUTO_RULE else None
    if decision is not None:
        pool = pool.on(decision.axes)
    applied = rule if decision is None else decision.rule
    groups = [("", np.arange(len(places)))] if group_by is None else groups_by(usable, group_by)
    found, validation = _search(_Plan(applied, seed, n_bins, stability), pool, groups, budget, trainee)
    kept = np.sort(np.concatenate([rows[region.kept] for _, rows, region in found]))
    whole = found[0][2] if group_by is None else Region(kept, (), sum(region.n_in_region for *_, region in found))
    record = {
        "rule": rule,
        "search": SEARCHES.get(applied, "ranks"),
        "axes": list(pool.axes),
        "keep": number_of(keep),
        "seed": seed,
        "bins": _bins_used(applied, n_bins),
        "adjust": adjust,
        "group_by": group_by,
        "uses_labels": validation is not None,
        "auto": None if decision is None else decision.to_record(),
        "validated": None if validation is None else validation.to_record(),
        "n_rows": len(places),
        "n_left_out": scores.num_rows - len(places),
        "n_in_region": whole.n_in_region,
        "n_kept": len(kept),
        **_region_record(whole),
        "groups": None if group_by is None else {name: _group_record(rows, region) for name, rows, region in found},
        **describe(usable, columns, kept),
        "seconds": round(time.perf_counter() - start, 4),
    }
    return Selection(pool.row_ids[kept], rule, pool.axes, len(places), whole.bounds, record)


def check_group(scores: pa.Table, column: str, field: str | None) -> None:
    """Refuse to group by labels or sources of which there is none.

    Args:
        scores: of all rows.
        column: "label" or "source".
        field: of the corpus that they were read from; None: none was.

    Raises:
        InputError: no row has one; the message says why.
    """
    if scores.column(column).null_count < scores.num_rows:
        return
    if field is None:
        raise InputError(f"group_by: the scores have no {column}; score with --{column}-field")
    raise InputError(
        f"group_by: no row has a {column}: the field {field!r} is null, or a list or an object, in every row; score "
        f"with another --{column}-field into a new directory"
    )


def groups_by(scores: pa.Table, column: str) -> list[tuple[str, Int64Array]]:
    """Return the names of the labels or sources of a scores table, and the positions of their rows.

    Raises:
        InputError: no row has one.
    """
    check_group(scores, column, None)
    groups = groups_of(scores, column)
    return list(zip(groups.names, groups.members(), strict=True))


def rows_of_rule(
    scores: pa.Table,
    rule: str,
    axes: Sequence[str] | None,
    embedded: Embedded | None = None,
    pairs: bool = False,
) -> pa.Table:
    """Return the rows that a rule chooses among, with the scores that it looks at: the pool of a baseline beside it.

    Raises:
        InputError: there is none, or the table lacks a score.
    """
    columns, places, _ = _pool_of(rule, axes_for(rule, axes), scores, embedded, pairs)
    others = set(score_columns(scores)) - set(columns)
    return scores.take(places).drop_columns(sorted(others))


def _pool_of(
    rule: str, named: Sequence[str], scores: pa.Table, embedded: Embedded | None, pairs: bool
) -> tuple[tuple[str, ...], Int64Array, Float32Array | None]:
    """Return the columns that a rule looks at, and positions and embeddings of the rows that have what it needs."""
    if rule not in COVERAGE_RULES and (rule != AUTO_RULE or embedded is None):
        columns = _columns_of(rule, named, scores, pairs)
        return columns, _usable(scores, columns), None
    places = _usable(scores, ())
    embeddings = _embeddings_of(rule, scores.column("row_id").to_numpy()[places], embedded)
    there = embeddings.any(1)
    return (), places[there], embeddings[there]


@dataclass(frozen=True)
class _Plan:
    """What is done in every group."""

    rule: str
    seed: int
    bins: int
    stability: int

    def find(self, pool: Pool, budget: int) -> Region:
        region = apply_rule(self.rule, pool, budget, seed=self.seed, bins=self.bins)
        if not self.stability:
            return region
        bins = _bins_used(self.rule, self.bins)
        stability = stability_of(self.rule, pool, budget, self.stability, self.seed, bins)
        return replace(region, stability=stability)


def _search(
    plan: _Plan, pool: Pool, groups: Sequence[tuple[str, Int64Array]], budget: int, trainee: Trainee | None
) -> tuple[list[tuple[str, Int64Array, Region]], Validation | None]:
    """Find the region of every group, of one without a row none, and how a search by labels went, if there was one."""
    if plan.rule == VALIDATED:
        if trainee is None:
            raise InvalidArgument("rule: 'validated' trains on texts and labels, not on scores alone; use euds.select")
        region, validation = search_validated(pool, budget, trainee, seed=plan.seed, bins=plan.bins)
        if plan.stability:
            region = replace(region, stability=_stability_of_region(region, pool, plan.stability, plan.seed))
        return [("", groups[0][1], region)], validation
    shares = split_budget(budget, [len(rows) for _, rows in groups])
    found = [
        (name, rows, plan.find(pool.part(rows), share) if share else NOTHING)
        for (name, rows), share in zip(groups, shares, strict=True)
    ]
    return found, None


def stability_of(
    rule: str, pool: Pool, budget: int, n_replicates: int, seed: int, bins: int | None
) -> dict[str, Any] | None:
    """Return the stability of a rule's region as selection.json holds it; None for rules that have none.

    A rule without a region, or with more than three axes, has none. Its grid is no finer than `bins` of the search.
    """
    search = search_of(rule, pool)
    if search is None or search.values.shape[1] > MAX_AXES or search.rule not in STABLE_RULES:
        return None
    grid = STABILITY_BINS[search.values.shape[1]]
    found = region_stability(
        search.values,
        keep=budget,
        rule=search.rule,
        n_replicates=n_replicates,
        seed=seed,
        bins=grid if bins is None else min(bins, grid),
    )
    return _stability_record(found, search.axes)


def _stability_of_region(region: Region, pool: Pool, n_replicates: int, seed: int) -> dict[str, Any]:
    """Return the stability of a region between its quantiles, for a search that is too dear to repeat."""
    axes = [side.axis for side in region.bounds]
    quantiles = [(side.low_rank, side.high_rank) for side in region.bounds]
    found = quantile_stability(pool.on(axes).values, quantiles, n_replicates=n_replicates, seed=seed)
    return _stability_record(found, axes)


def _stability_record(found: Stability, axes: Sequence[str]) -> dict[str, Any]:
    # Lists, as selection.json has them, not tuples.
    record = json.loads(found.to_json())
    sides = [{"axis": axis, **side} for axis, side in zip(axes, record.pop("sides"), strict=True)]
    return {**record, "sides": sides}


def _columns_of(rule: str, named: Sequence[str], scores: pa.Table, pairs: bool) -> tuple[str, ...]:
    """Return the columns that a rule looks at."""
    if rule == AUTO_RULE:
        return (EVIDENCE_AXIS,) if pairs and EVIDENCE_AXIS in scores.column_names else ()
    if rule == VALIDATED and not named:
        return _entropies(scores)
    return axis_columns(named, scores, fixed_by=rule if rule in FIXED_AXES else None)


def _bins_used(rule: str, bins: int) -> int | None:
    """Return the bins an axis of the grid that the rule searches, or None for rules that search none."""
    if rule == VALIDATED:
        return min(bins, MAX_BOX_BINS)
    return bins if rule in BOX_RULES else None


def _entropies(scores: pa.Table) -> tuple[str, ...]:
    columns = tuple(column for column in ENTROPIES if column in scores.column_names)
    if not columns:
        raise InputError("axes: the run has none of the three entropies; name the scores to look at, each with --axis")
    return columns


def _usable(scores: pa.Table, columns: Sequence[str]) -> Int64Array:
    """Positions of the rows with every score that the rule needs; without axes, with every score there is."""
    needed = columns or score_columns(scores)
    finite = [np.isfinite(values_of(scores, column)) for column in (*needed, "n_tokens")]
    places = np.flatnonzero(np.all(finite, axis=0))
    if not len(places):
        raise InputError(f"no row has {', '.join(needed)}; see quarantine.jsonl for the reasons")
    return places


def _embeddings_of(rule: str, row_ids: Int64Array, embedded: Embedded | None) -> Float32Array:
    if embedded is None:
        raise InvalidArgument(f"rule: {rule!r} covers the embeddings of texts, not scores alone; use euds.select")
    embeddings = embedded.of(row_ids)
    if not embeddings.any():
        raise InputError("no row has an embedding; see quarantine.jsonl for the reasons")
    return embeddings


def _pool(usable: pa.Table, columns: tuple[str, ...], adjust: str | None) -> Pool:
    n_tokens = values_of(usable, "n_tokens")
    values = [values_of(usable, column) for column in columns]
    if adjust == "log_length":
        values = [without_length(axis, n_tokens) for axis in values]
    matrix = np.column_stack(values) if values else np.empty((usable.num_rows, 0))
    return Pool(columns, matrix, n_tokens, usable.column("row_id").to_numpy())


def _region_record(region: Region) -> dict[str, Any]:
    return {
        "bounds": [asdict(bounds) for bounds in region.bounds],
        "volume": region.volume,
        "lift": region.lift,
        "stability": region.stability,
    }


def _group_record(rows: Int64Array, region: Region) -> Mapping[str, Any]:
    return {"n_rows": len(rows), "n_kept": len(region.kept), **_region_record(region)}

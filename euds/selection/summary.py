"""A selection in a few lines of text."""

from collections.abc import Mapping
from typing import Any

from euds.selection.describe import NO_GROUP, largest, short
from euds.types import Selection

SHOWN_STARVED = 4
"""Labels without a kept row that are named, the largest."""


def summary(selection: Selection) -> str:
    """Return what was kept, between which bounds, and what to watch: keep rates and the correlation with length."""
    record = selection.record
    lines = [f"kept {selection.n_kept:,} of {selection.n_rows:,} rows by {selection.rule}"]
    decided = record.get("auto")
    if isinstance(decided, dict):
        lines.append(f"  auto: {' '.join((decided['rule'], *decided['axes']))}; {decided['reason']}")
    lines += [f"  {line}" for line in label_lines(record)]
    unit = " (residuals on ln tokens)" if record.get("adjust") else ""
    lines += [
        f"  {side.axis}{unit}: {side.low:.4g} .. {side.high:.4g} (ranks {side.low_rank:.3f} .. {side.high_rank:.3f})"
        for side in selection.bounds
    ]
    if record.get("lift") is not None:
        lines.append(f"  volume {record['volume']:.4f}, lift {record['lift']:.2f} over independent axes")
    stable = record.get("stability")
    if isinstance(stable, dict):
        low, _, high = stable["overlap_quantiles"]
        regions = "the same quantiles" if record.get("validated") else "regions"
        lines.append(
            f"  stability: {regions} of {stable['n_replicates']} resampled pools share {stable['overlap']:.0%} "
            f"({low:.0%} .. {high:.0%}) of the rows"
        )
    for kind in ("label", "source"):
        rates = record.get(f"keep_rate_by_{kind}")
        if isinstance(rates, dict):
            shown = largest(rates)
            parts = ", ".join(f"{short(name)} {rate['rate']:.1%}" for name, rate in shown.items())
            rest = f" (the {len(shown)} largest of {len(rates):,})" if len(shown) < len(rates) else ""
            lines.append(f"  keep rate by {kind}: {parts}{rest}")
    lines += [f"  warning: {line}" for line in starved_lines(record)]
    cues = record.get("label_cues")
    if isinstance(cues, dict):
        lines += [
            f"  warning: in the kept rows {axis} tells the labels apart (epsilon squared {cue['kept']:.2f}, in the "
            f"pool {cue['pool']:.2f}); a model may learn that instead of the task"
            for axis, cue in cues.items()
        ]
    correlation = record.get("length_correlation")
    if isinstance(correlation, dict):
        parts = ", ".join(f"{axis} {value:+.2f}" for axis, value in correlation.items() if value is not None)
        lines += [f"  rank correlation with length: {parts}"] if parts else []
    lines += _text_lines(record.get("fields_as_text"))
    if record.get("selected_file"):
        lines.append(f"  rows in {record['selected_file']}")
    return "\n".join(lines)


def label_lines(record: Mapping[str, Any]) -> list[str]:
    """Say what the searches of a record by labels found: how much may be dropped, and who won; none without labels."""
    return _keep_lines(record.get("keep_auto")) + _validated_lines(record.get("validated"))


def starved_lines(record: Mapping[str, Any]) -> list[str]:
    """Tell labels that keep no row, and such sources where the budget was split by source; a line a kind, or none."""
    lines = []
    for kind in ("label", "source") if record.get("group_by") == "source" else ("label",):
        rates = record.get(f"keep_rate_by_{kind}")
        # Rows without a label are no class that a model could miss.
        named = {name: rate for name, rate in rates.items() if name != NO_GROUP} if isinstance(rates, dict) else {}
        sizes = {name: rate["rows"] for name, rate in named.items() if not rate["kept"]}
        if not sizes:
            continue
        starved = sorted(sizes, key=lambda name: (-sizes[name], name))
        parts = [f"{short(name)} ({sizes[name]:,} row{'s' if sizes[name] > 1 else ''})" for name in starved]
        shown = ", ".join(parts[:SHOWN_STARVED] + ["..."] * (len(parts) > SHOWN_STARVED))
        so = "; a model cannot learn what it never sees" if kind == "label" else ""
        lines.append(f"no row is kept of {len(parts):,} of {len(named):,} {kind}s: {shown}{so}")
    return lines


def _text_lines(as_text: object) -> list[str]:
    """Say which fields of the kept rows had to become text, and of which form."""
    if not isinstance(as_text, dict):
        return []
    forms = {form: [name for name, own in as_text.items() if own == form] for form in as_text.values()}
    return [f"  written as {form}, as no type holds all their values: {', '.join(forms[form])}" for form in forms]


def _keep_lines(found: object) -> list[str]:
    """Say how much may be dropped, and what random needs for the same."""
    if not isinstance(found, dict):
        return []
    parts = [
        f"{curve['rule']} {'no part' if curve['keep'] is None else format(curve['keep'], '.1%')}"
        for curve in found["curves"]
    ]
    return [
        f"keep auto: within {100 * found['margin']:g} points of full data ({100 * found['full_accuracy']:.1f} %) in "
        f"{found['confidence']:.0%} of the resampled curves: {', '.join(parts)}; labels were used"
    ]


def _validated_lines(found: object) -> list[str]:
    """Set the winner of a search by labels against the fixed regions, and against luck."""
    if not isinstance(found, dict):
        return []
    fixed = ", ".join(f"{name} {100 * accuracy:.1f}" for name, accuracy in found["fixed"].items())
    won = f"{found['chosen']} {100 * found['accuracy']:.1f} % of {found['n_validation']} rows"
    return [
        f"validated: {won}; fixed: {fixed}",
        f"{found['n_trials']} trials in {found['seconds']:.1f} s; the best of as many equals looks "
        f"{100 * found['luck']:.1f} points better by luck alone; labels were used",
    ]

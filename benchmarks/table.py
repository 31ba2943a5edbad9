"""Make the tables of benchmarks/README.md from the rows under benchmarks/results, between their markers."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def write_tables() -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end NAME -->` by the table of results/NAME.json.

    Results of a machine that has no place yet get one at the end.
    """
    readme = FOLDER / "README.md"
    text = readme.read_text(encoding="utf-8")
    for path in sorted((FOLDER / "results").glob("*.json")):
        start, end = f"<!-- {path.stem} -->\n", f"<!-- end {path.stem} -->"
        if start not in text or end not in text:
            text += f"\n{start}{end}\n"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        kind = path.stem.rpartition("-")[0]
        table = TABLES[kind](json.loads(path.read_text(encoding="utf-8")))
        text = f"{before}{start}{table}{end}{after}"
    readme.write_text(text, encoding="utf-8")


def scoring_table(content: Mapping[str, Any]) -> str:
    """Return the Markdown table of a scoring benchmark."""
    lines = [
        f"{_where(content['environment'])}.",
        "",
        "| corpus | contender | rows | tokens | tokens/s (low-high) | euds is | peak memory | error, nats |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['corpus']} | {row['contender']} | {row['rows']:,} | {row['tokens']:,} "
        f"{_rates(row)} "
        f"| {_or_blank(row['peak_memory_mib'], '{:,.0f} MiB')} | {_or_blank(row['largest_error_nats'], '{:.1e}')} |"
        for row in content["rows"]
    ]
    return "\n".join(lines) + "\n"


def _rates(row: Mapping[str, Any]) -> str:
    """Two cells: tokens a second, and how many times that euds is, if euds was measured."""
    times = _or_blank(row["ratio_to_euds"] and 1 / row["ratio_to_euds"], "{:.2f}x")
    return f"| {row['median']:,.0f} ({row['low']:,.0f}-{row['high']:,.0f}) | {times}"


def peers_table(content: Mapping[str, Any]) -> str:
    """Return the Markdown table of the benchmark against other projects."""
    lines = [
        f"{_where(content['environment'])}.",
        "",
        "| corpus | contender | rows | tokens | tokens/s (low-high) | euds is | largest difference, nats a token |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['corpus']} | {row['contender']} {row['version']} | {row['rows']:,} | {row['tokens']:,} "
        f"{_rates(row)} "
        f"| {_or_blank(row['largest_difference_nats'], '{:.1e}')} |"
        for row in content["rows"]
    ]
    return "\n".join(lines) + "\n"


def kernels_table(content: Mapping[str, Any]) -> str:
    """Return the Markdown tables of a kernel benchmark: logits in memory, then fused with the projection."""
    lines = [f"{_where(content['environment'])}.", ""]
    for op, columns in (("token_stats", ("dtype", "vocabulary")), ("linear_token_stats", ("hidden", "vocabulary"))):
        rows = [row for row in content["rows"] if row["op"] == op]
        if not rows:
            continue
        lines += [f"`{op}`:", "", *_kernel_lines(rows, columns), ""]
    return "\n".join(lines)


def semantic_table(content: Mapping[str, Any]) -> str:
    """Return the Markdown tables of the semantic benchmark: seconds a million rows, then pairs judged."""
    lines = [
        f"{_where(content['environment'])}.",
        "",
        "| part | op | contender | rows timed | s per million rows (p20-p80) | euds is | memory | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        name = f"{row['op']}, K {row['clusters']:,}" if "clusters" in row else row["op"]
        lines.append(
            f"| {row['part']} | {name} | {row['contender']} | {row['rows']:,} "
            f"| {row['seconds_per_million_rows']:,.3g} ({1e3 / row['p80']:,.3g}-{1e3 / row['p20']:,.3g}) "
            f"| {_or_blank(row['ratio_to_euds'] and 1 / row['ratio_to_euds'], '{:,.3g}x')} "
            f"| {row['peak_memory_mib']:,.0f} MiB "
            f"| {_or_blank(row['largest_difference'], '{:.1e}')} |"
        )
    return "\n".join([*lines, *_semantic_notes(content["rows"])]) + "\n"


def samples_table(content: Mapping[str, Any]) -> str:
    """Return the Markdown tables of the real run over generations: spread of each score, agreement of each pair."""
    lines = [
        f"{_where(content['environment'])}; {content['rows']} rows.",
        "",
        "| score | 5 %, nats | median | 95 % | different values |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {row['q05']:.2f} | {row['q50']:.2f} | {row['q95']:.2f} | {row['different_values']} |"
            for name, row in content["spread"].items()
        ),
        "",
        "| rank agreement of | and | Spearman | Kendall |",
        "|---|---|---|---|",
        *(
            f"| {row['scores'][0]} | {row['scores'][1]} | {row['spearman']:+.2f} | {row['kendall']:+.2f} |"
            for row in content["agreement"]
            # Of the two estimators of a grouping, one; the file has all.
            if not any(name.endswith("discrete") for name in row["scores"])
        ),
    ]
    return "\n".join(lines) + "\n"


def _semantic_notes(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        if "purity" in row:
            yield ""
            yield (
                f"{row['contender']}, {row['rows']:,} embeddings, K {row['clusters']:,}: {row['purity']:.1%} lie in a "
                "cluster that stands for their own planted centre."
            )
        if "evaluated_pairs" in row:
            yield ""
            yield (
                f"Directed pairs judged on {row['rows']:,} samples of 10 generations: {row['evaluated_pairs']:,} of "
                f"{row['all_pairs']:,} ({row['evaluated_pairs'] / row['all_pairs']:.1%}), in {row['model_calls']} "
                "calls of the model."
            )


def search_table(content: Mapping[str, Any]) -> str:
    """Return the Markdown table of the search benchmark."""
    lines = [
        f"{_where(content['environment'])}.",
        "",
        "| part | op | bins | contender | rows | ms | Mrows/s p50 (p20-p80) | of the limit | euds is | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        limit = "" if row["ratio_to_limit"] is None else f"{row['ratio_to_limit']:.1%} of the {row['limit']}"
        lines.append(
            f"| {row['part']} | {row['op']} | {row.get('bins', '')} | {row['contender']} | {row['rows']:,} "
            f"| {row['milliseconds']:,.1f} | {row['p50']:,.4g} ({row['p20']:,.4g}-{row['p80']:,.4g}) | {limit} "
            f"| {_or_blank(row['ratio_to_euds'] and 1 / row['ratio_to_euds'], '{:,.3g}x')} "
            f"| {row['peak_memory_mib']:,.0f} MiB |"
        )
    return "\n".join(lines) + "\n"


def scale_table(content: Mapping[str, Any]) -> str:
    """Return the Markdown tables of the scale benchmark: runs of growing size, then what they are made of."""
    rows = content["rows"]
    lines = [
        f"{_where(content['environment'])}.",
        "",
        "| measure | way | rows | seconds | of processors | rows/s | tokens/s | time exponent | peak memory "
        "| again, s | of the run |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    before: Mapping[str, Any] = {}
    for row in (row for row in rows if row["measure"] != "kernel"):
        exponent = ""
        if (before.get("measure"), before.get("way")) == (row["measure"], row["way"]):
            exponent = f"{math.log(row['seconds'] / before['seconds']) / math.log(row['rows'] / before['rows']):.2f}"
        lines.append(
            f"| {row['measure']} | {row['way']} | {row['rows']:,} | {row['seconds']:,.1f} "
            f"| {_processors(row)} | {row['rows_per_second']:,} "
            f"| {row['tokens_per_second']:,} | {exponent} | {row['peak_memory_mib']:,} MiB "
            f"| {row['again_seconds']:.1f} | {row['again_seconds'] / row['seconds']:.1%} |"
        )
        before = row
    lines += ["", "| alone, on one core | rows | tokens | million tokens/s |", "|---|---|---|---|"]
    lines += [
        f"| {row['way']} | {row['rows']:,} | {row['tokens']:,} | {row['tokens_per_second'] / 1e6:.3g} |"
        for row in rows
        if row["measure"] == "kernel"
    ]
    return "\n".join(lines) + "\n"


def _processors(row: Mapping[str, Any]) -> str:
    # Ray's actors are no children of the command.
    return "" if "Ray" in row["way"] else f"{row['cpu_seconds']:,.1f}"


def _kernel_lines(rows: list[Mapping[str, Any]], columns: tuple[str, ...]) -> Iterator[str]:
    work = "GB/s" if "gb_per_s" in rows[0] else "TFLOP/s"
    titles = [*columns, "contender", f"{rows[0]['unit']} p50 (p20-p80)", work, "of the limit", "memory", "error"]
    yield f"| {' | '.join(titles)} |"
    yield "|---" * (len(columns) + 6) + "|"
    for row in rows:
        shape = " | ".join(f"{row[column]:,}" if isinstance(row[column], int) else row[column] for column in columns)
        done = row.get("gb_per_s", row.get("tflop_per_s"))
        memory = _or_blank(row["peak_memory_mib"], "{:,.0f} MiB")
        error = _or_blank(row["largest_error_nats"], "{:.1e}")
        yield (
            f"| {shape} | {row['contender']} | {_short(row['p50'])} ({_short(row['p20'])}-{_short(row['p80'])}) "
            f"| {done:.3g} | {row['ratio_to_limit']:.1%} | {memory} | {error} |"
        )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _or_blank(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _where(facts: Mapping[str, Any]) -> str:
    machine = f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB"
    if "gpu" in facts:
        machine = f"{facts['gpu']}, CUDA {facts['cuda']}; {machine}"
    known = ("date", "cpu", "cores", "memory_gib", "threads", "python", "gpu", "cuda", "model")
    versions = ", ".join(f"{name} {value}" for name, value in facts.items() if name not in known)
    model = f"; {facts['model']}" if "model" in facts else ""
    return f"{machine}; Python {facts['python']}, {versions}{model}; {facts['date']}"


TABLES = {
    "peers": peers_table,
    "scoring": scoring_table,
    "kernels": kernels_table,
    "semantic": semantic_table,
    "semantic-samples": samples_table,
    "search": search_table,
    "scale": scale_table,
}
"""Maker by kind of benchmark, its results file's name up to the device."""

if __name__ == "__main__":
    write_tables()

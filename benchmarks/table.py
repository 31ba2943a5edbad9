"""Make the tables of benchmarks/README.md from the rows under benchmarks/results, between their markers."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent


def write_tables() -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end NAME -->` by the table of results/NAME.json."""
    readme = FOLDER / "README.md"
    text = readme.read_text(encoding="utf-8")
    for path in sorted((FOLDER / "results").glob("*.json")):
        name = path.stem
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- end {name} -->")
        text = f"{before}<!-- {name} -->\n{scoring_table(path)}<!-- end {name} -->{after}"
    readme.write_text(text, encoding="utf-8")


def scoring_table(path: Path) -> str:
    """Return the Markdown table of a scoring benchmark."""
    content = json.loads(path.read_text(encoding="utf-8"))
    facts = content["environment"]
    lines = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; torch {facts['torch']}, "
        f"transformers {facts['transformers']}, Python {facts['python']}; {facts['model']}; {facts['date']}.",
        "",
        "| corpus | contender | rows | tokens | tokens/s (low-high) | euds is | peak memory | largest error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['corpus']} | {row['contender']} | {row['rows']:,} | {row['tokens']:,} "
        f"| {row['median']:,.0f} ({row['low']:,.0f}-{row['high']:,.0f}) | {1 / row['ratio_to_euds']:.2f}x "
        f"| {row['peak_memory_mib']:,} MiB | {row['largest_error_nats']:.1e} nats |"
        for row in content["rows"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_tables()

"""What the documents say of the study beside its conclusions: how choices overlap, and what the schedule decides."""

import numpy as np
from test_study_results import summary_of, task_of, text_of

from euds.study.grid.conclusions import conclusions
from euds.study.grid.entries import Entry
from euds.study.grid.wording import interval

STRATIFIED = [f"stratified_{axis}" for axis in ("nll", "information", "generative", "semantic")]


def entries_at(name: str, keep: float, schedule: str) -> dict[str, Entry]:
    found = summary_of(name)
    full = found.full(schedule)
    assert full is not None
    return {entry.method: entry for entry in (full, *found.at(keep, schedule))}


def gap(entry: Entry) -> str:
    return interval(entry.vs_random)


def test_random_choices_share_rows_beyond_chance() -> None:
    groups = task_of("movies").groups

    def shared(*methods: str) -> str:
        random = {cell.selection_seed: set(cell.selected) for cell in groups["random", 0.16, "5 epochs"].cells}
        shares = [
            len(random[cell.selection_seed].intersection(cell.selected)) / len(cell.selected)
            for method in methods
            for cell in groups[method, 0.16, "5 epochs"].cells
        ]
        return f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %"

    assert (
        f"`stratified_X` shares {shared(*STRATIFIED)} of its rows with `random` on the snippets at 16 %, `clusters` "
        f"{shared('clusters')}, `random_length_matched` {shared('random_length_matched')}."
    ) in text_of("docs/study.md")


def test_on_reuters_the_schedule_decides() -> None:
    few, more = entries_at("reuters", 0.16, "5 epochs"), entries_at("reuters", 0.3, "5 epochs")
    means = {method: f"{100 * entry.mean:.1f}" for method, entry in few.items()}
    assert (
        f"after 5 epochs random has {means['random']}, `facility` {means['facility']}, shown to be better, `k_center` "
        f"{means['k_center']} and the full data {means['full']}."
    ) in text_of("README.md")
    assert (
        f"After 5 epochs, 40 steps of 128 rows, random has {means['random']} and the full data {means['full']}; there "
        f"`facility` is shown to be better than random ({gap(few['facility'])}), also at 30 % "
        f"({gap(more['facility'])}), and `k_center` worse ({gap(few['k_center'])})."
    ) in text_of("docs/study.md")
    assert few["random"].rows == 128
    assert few["facility"].better_than_random
    assert more["facility"].better_than_random
    assert few["k_center"].worse_than_random


def test_coverage_leads_on_the_seeds_of_reuters_that_were_added() -> None:
    entries, groups = entries_at("reuters", 0.16, "240 steps"), task_of("reuters").groups
    said = text_of("docs/study.md")

    def accuracies(method: str) -> list[float]:
        cells = sorted(groups[method, 0.16, "240 steps"].cells, key=lambda cell: cell.seed)
        return [100 * cell.metrics["test"]["accuracy"] for cell in cells]

    leads = {method: np.subtract(accuracies(method), accuracies("random")) for method in ("k_center", "facility")}
    assert all(len(lead) == 10 and lead[3:].min() > 0 for lead in leads.values())
    first, later = ([f"{lead[some].mean():+.1f}" for lead in leads.values()] for some in (slice(3), slice(3, None)))
    assert f"first three seeds ({' and '.join(first)}, not shown)" in said
    assert f"ahead on each, by {' and '.join(later)}." in said
    rules = {method: entry for method, entry in entries.items() if method != "full"}
    assert {method for method, entry in rules.items() if entry.better_than_random} == leads.keys()
    assert not any(entry.non_inferior for entry in rules.values())
    for text in (said, text_of("README.md")):
        assert all(f"`{method}` ({gap(entries[method])})" in text for method in leads)


def test_what_synthetic_rows_are_worth() -> None:
    entries = entries_at("synthetic", 0.48, "5 epochs")
    means = {method: f"{100 * entry.mean:.1f}" for method, entry in entries.items()}
    originals, written = entries["original_rows"], entries["synthetic_rows"]
    assert {entry.rows for entry in (originals, written, entries["random"])} == {480}
    assert {len(entry.seeds) for entry in entries.values()} == {3}
    assert originals.better_than_random
    assert written.worse_than_random
    assert (
        f"of 480 rows each, three seeds, originals alone have {means['original_rows']}, both sources {means['random']} "
        f"and synthetic rows alone {means['synthetic_rows']}; against both, originals have {gap(originals)} and "
        f"synthetic rows {gap(written)}, each shown. The whole pool, these originals with as many synthetic rows, has "
        f"{means['full']}: adding them brought nothing (the originals alone {interval(originals.vs_full)} against it, "
        "not shown to differ)."
    ) in text_of("docs/study.md")


def test_the_least_difference_that_would_be_shown_of_the_snippets() -> None:
    said = []
    for keep in (0.16, 0.3):
        sentence = next(
            line for line in conclusions(summary_of("movies")) if f"{100 * keep:.0f} %, 5 epochs, with 5 " in line
        )
        rules, _, points = sentence.partition("shown after correction over ")[2].partition(" rules ")
        said.append((round(float(points.split()[0])), int(rules)))
        assert min(len(entry.seeds) for entry in summary_of("movies").at(keep) if not entry.fake) == 5
    (first, n_first), (second, n_second) = said
    assert (
        f"on the snippets {first} points of {n_first} rules at 16 % and {second} of {n_second} rules at 30 %, on five "
        "seeds and more"
    ) in text_of("docs/study.md")

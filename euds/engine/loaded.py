"""The models and tokenizers of one process, each loaded once, when it is first needed."""

import sys
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from euds.engine.prepare import Plan, model_names
from euds.measures.tokens import ModelTokenizer
from euds.progress import say

if TYPE_CHECKING:
    # These bring torch and transformers along, which take seconds: a finished run does without.
    from euds.engine.meanings import Judges
    from euds.engine.read import Encoders
    from euds.measures.causal_lm import CausalLM
    from euds.measures.device import Precision
    from euds.measures.generate import Sampler
    from euds.measures.generative import GenerativeScorer
    from euds.measures.label_words import LabelWordScorer
    from euds.measures.semantic import Embedder

Loaded = TypeVar("Loaded")


class Models:
    """The models of a run; what reads or goes on from texts shares one causal LM, what embeds them one encoder.

    Args:
        plan: the run.
        precision: device and dtype of all models.

    Attributes:
        seconds: spent on loading so far, by all threads.
    """

    def __init__(self, plan: Plan, precision: "Precision") -> None:
        self.plan = plan
        self.precision = precision
        self.seconds = 0.0
        self._of_thread = threading.local()
        self._encoders_lock = threading.Lock()

    @property
    def seconds_here(self) -> float:
        """Seconds that this thread has spent on loading, or waited for another that loads what it needs, so far."""
        found: float = getattr(self._of_thread, "seconds", 0.0)
        return found

    @property
    def encoders(self) -> "Encoders":
        """The tokenizers; alone of all models, two threads may want them at once."""
        start = time.perf_counter()
        with self._encoders_lock:
            self._of_thread.seconds = self.seconds_here + time.perf_counter() - start
            return self._encoders

    @cached_property
    def _encoders(self) -> "Encoders":
        from euds.engine.read import Encoders

        return self._timed(lambda: Encoders.of(self.plan))

    @cached_property
    def scorer(self) -> "GenerativeScorer":
        """What measures generative entropy."""
        from euds.measures.generative import GenerativeScorer

        tokenizer, lm = self.encoders.tokens, self._lm
        assert isinstance(tokenizer, ModelTokenizer)
        return self._timed(lambda: GenerativeScorer(lm, tokenizer.bos_id))

    @cached_property
    def embedder(self) -> "Embedder":
        """The sentence encoder."""
        from euds.measures.semantic import Embedder

        return self._timed(lambda: Embedder(self.plan.folders["embedder"], self.precision))

    @cached_property
    def generator(self) -> "Sampler | None":
        """What samples generations; None for a run that takes them over."""
        settings = self.plan.config.samples
        assert settings is not None
        if settings.generations_from is not None:
            return None
        arguments: dict[str, Any] = {"stop_at_newline": settings.stops_at_newline}
        if settings.sampler == "vllm":
            from euds.measures.generate_vllm import VllmGenerator

            folder, prompts = self.plan.folders["lm"], self.encoders.prompts
            # Where the context is not known, vLLM has a rule of its own.
            if self.plan.context is not None and prompts is not None:
                arguments["most_tokens"] = prompts.max_tokens + settings.max_new_tokens
            return self._timed(lambda: VllmGenerator(folder, self.precision, settings.warping, **arguments))
        from euds.measures.generate import Generator

        lm = self._lm
        return self._timed(lambda: Generator(lm, settings.warping, **arguments))

    @cached_property
    def label_words(self) -> "LabelWordScorer":
        """What scores label words."""
        from euds.measures.label_words import LabelWordScorer

        return LabelWordScorer(self._lm, self.encoders.label_words)

    @cached_property
    def judges(self) -> "Judges":
        """What tells meanings apart."""
        from euds.engine.generation_stages import load_judges

        settings = self.plan.config.samples
        assert settings is not None
        embedder = self.embedder if settings.needs_embeddings else None
        return self._timed(lambda: load_judges(self.plan, embedder, self.precision))

    @cached_property
    def _lm(self) -> "CausalLM":
        from euds.measures.causal_lm import CausalLM

        return self._timed(lambda: CausalLM.load(self.plan.folders["lm"], self.precision))

    def _timed(self, load: Callable[[], Loaded]) -> Loaded:
        """Count the seconds of `load`, which must load no other part of this, or they would count twice."""
        start = time.perf_counter()
        loaded = load()
        taken = time.perf_counter() - start
        self.seconds += taken
        self._of_thread.seconds = self.seconds_here + taken
        return loaded


def tell_of_loading(plan: Plan) -> None:
    """Say which models are loaded, before anything has imported transformers.

    That and torch take seconds, without a bar, and longer than most models: a process that has them says nothing.
    """
    names = [name for role, name in model_names(plan.config).items() if role != "tokenizer"]
    if names and "transformers" not in sys.modules:
        say(f"loading {', '.join(dict.fromkeys(names))} ...")


def check_models(plan: Plan) -> None:
    """Refuse models that a run could not load, by their configuration and the names and shapes of their weights.

    vLLM loads its own, of which this knows nothing. Warns of an encoder that is none.

    Raises:
        InputError, RunStopped: as the check of each model.
    """
    config, folders = plan.config, plan.folders
    settings = config.samples
    generates = settings is not None and settings.generations_from is None and settings.sampler != "vllm"
    # transformers takes seconds to import: only where a model runs, too.
    if "generative" in config.measures or config.label_words is not None or generates:
        from euds.measures.causal_lm import check_causal_lm

        check_causal_lm(folders["lm"])
    if config.embeds:
        from euds.measures.semantic import check_embedder, is_causal_lm

        check_embedder(folders["embedder"])
        if is_causal_lm(folders["embedder"]):
            say(f"warning: embedder {config.embedder} is a causal language model, not trained to embed texts")
    if "nli" in folders:
        from euds.measures.entailment import check_entailment_model

        check_entailment_model(folders["nli"])

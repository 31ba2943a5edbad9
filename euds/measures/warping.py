"""How a next-token distribution is cut before a token is drawn from it."""

from dataclasses import dataclass

from euds.errors import InvalidArgument


@dataclass(frozen=True)
class Warping:
    """How the next-token distribution is cut before a token is drawn, in the order of transformers.

    Attributes:
        temperature: divisor of the logits, > 0.
        top_k: most probable tokens that are left, >= 1, or 0 for all; 1 is greedy.
        top_p: of those, the fewest most probable ones whose probabilities sum to at least top_p, 0..1, 0 excluded.

    Raises:
        InvalidArgument: a number is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.9

    def __post_init__(self) -> None:
        # Written so that NaN is refused too.
        if not 0 < self.temperature < float("inf"):
            raise InvalidArgument(f"temperature: must be finite and above 0, got {self.temperature}; top_k=1 is greedy")
        if self.top_k < 0:
            raise InvalidArgument(f"top_k: must be at least 1, or 0 for no limit; got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise InvalidArgument(f"top_p: must be above 0 and at most 1, got {self.top_p}")

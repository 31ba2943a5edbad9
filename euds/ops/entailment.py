"""Meaning groups of generations by bidirectional entailment, with as few questions to the model as possible."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidType
from euds.ops.grouping import as_booleans, check_empty, check_strings, text_codes
from euds.ops.ragged import check_offsets
from euds.types import BoolArray, Int64Array

Entails = Callable[[Sequence[str], Sequence[str]], npt.ArrayLike]
"""(premises, hypotheses) -> booleans, whether each premise entails its hypothesis."""


@dataclass(frozen=True, eq=False)
class EntailmentGroups:
    """Meaning groups by entailment, and what they cost.

    Attributes:
        groups: (total,) int64, numbered from 0 within each sample by first appearance.
        n_evaluated: directed pairs (premise, hypothesis) that the model judged, each once.
        n_all_pairs: directed pairs of different generations in the same sample, sum of N (N - 1): what judging every
            pair would take.
        n_rounds: calls of the model.
    """

    groups: Int64Array
    n_evaluated: int
    n_all_pairs: int
    n_rounds: int


def entailment_groups(
    texts: Sequence[str], offsets: npt.ArrayLike, entails: Entails, *, empty: npt.ArrayLike | None = None
) -> EntailmentGroups:
    """Group each sample's generations: two mean the same if each entails the other.

    Each generation in order is held against the first member of each group in order, and joins the first group whose
    first member entails it and is entailed by it; else it founds a group. In a round, every sample asks its next
    question, and the model is called once for all of them; the second direction is asked only where the first holds.
    Equal texts are the same without a question, and a pair of texts is asked once in the whole call.
    Source: Kuhn et al. 2023, algorithm 1; docs/method.md, "Semantic entropy", estimator `samples`, grouping.

    Args:
        texts: (total,) what the model should read for every generation, any question already in front.
        offsets: (n + 1,) integers rising from 0 to total; sample i owns texts[offsets[i]:offsets[i+1]].
        entails: judges pairs of texts, any number at a time; it must answer the same whenever asked.
        empty: (total,) booleans, the generations without text: they form one group of their own in each sample, without
            a question. None: those whose text is blank.

    Returns:
        `groups` (total,) int64, numbers from 0 within each sample in order of appearance; `n_evaluated`, the pairs that
        were judged, one direction each; `n_all_pairs`, those of all generations of all samples; and `n_rounds`.

    Raises:
        InvalidArgument: a text is no string, offsets do not rise from 0 to total, empty is not one boolean a
            generation, or entails does not return one boolean a pair.
        InvalidType: entails is no function.
    """
    from euds.kernels.grouping_numba import ragged_first_equal, ragged_ranks

    if not callable(entails):
        raise InvalidType(f"entails: must be a function of premises and hypotheses, got {type(entails).__name__}")
    check_strings("texts", texts)
    codes, distinct = text_codes(texts)
    starts = check_offsets(offsets, len(codes))
    blank = np.array([not text.strip() for text in distinct], np.bool_)[codes] if empty is None else empty
    silent = check_empty(blank, len(codes))
    firsts = ragged_first_equal(np.where(silent, -1, codes), starts)
    heads = np.flatnonzero((firsts == np.arange(len(codes))) & ~silent)
    judge = _Judge(entails, distinct)
    founder_of_head = _join(heads, np.searchsorted(heads, starts), codes, judge)
    founders = np.arange(len(codes))
    founders[heads] = founder_of_head
    sizes = np.diff(starts)
    return EntailmentGroups(
        groups=ragged_ranks(founders[firsts], starts),
        n_evaluated=len(judge.keys),
        n_all_pairs=int((sizes * (sizes - 1)).sum()),
        n_rounds=judge.n_calls,
    )


class _Judge:
    """Asks the model, and remembers every answer by premise and hypothesis."""

    def __init__(self, entails: Entails, texts: list[str]) -> None:
        self.entails = entails
        self.texts = texts
        self.keys: Int64Array = np.empty(0, np.int64)
        self.answers: BoolArray = np.empty(0, np.bool_)
        self.n_calls = 0

    def ask(self, premises: Int64Array, hypotheses: Int64Array) -> BoolArray:
        """Return whether each premise entails its hypothesis, both given as numbers of texts."""
        keys = premises * len(self.texts) + hypotheses
        wanted = np.setdiff1d(keys, self.keys)
        if len(wanted):
            self._remember(wanted, self._evaluate(wanted))
        return self.answers[np.searchsorted(self.keys, keys)]

    def _evaluate(self, keys: Int64Array) -> BoolArray:
        self.n_calls += 1
        premises, hypotheses = (np.array(part).tolist() for part in np.divmod(keys, len(self.texts)))
        answers = self.entails([self.texts[at] for at in premises], [self.texts[at] for at in hypotheses])
        return as_booleans(f"entails: must return {len(keys)} booleans, one a pair", answers, len(keys))

    def _remember(self, keys: Int64Array, answers: BoolArray) -> None:
        at = np.searchsorted(self.keys, keys)
        self.keys = np.insert(self.keys, at, keys)
        self.answers = np.insert(self.answers, at, answers)


def _join(heads: Int64Array, starts: Int64Array, codes: Int64Array, judge: _Judge) -> Int64Array:
    """Return the position of the founder of each head's group; heads of sample i lie at starts[i]..starts[i+1]."""
    founder_of = heads.copy()
    # Founders of sample i stand at starts[i], starts[i] + 1, ... in the order of their groups.
    founders = heads.copy()
    n_groups = np.ones(len(starts) - 1, np.int64)
    # The head that each sample places now, the group it is held against, and whether that group's founder entails it.
    head, group = starts[:-1] + 1, np.zeros(len(starts) - 1, np.int64)
    second = np.zeros(len(starts) - 1, np.bool_)
    active = np.flatnonzero(head < starts[1:])
    while len(active):
        placed = heads[head[active]]
        against = founders[starts[active] + group[active]]
        turned = second[active]
        holds = judge.ask(codes[np.where(turned, placed, against)], codes[np.where(turned, against, placed)])
        second[active] = holds & ~turned
        group[active] += ~holds
        joined = holds & turned
        founder_of[head[active[joined]]] = against[joined]
        founded = ~holds & (group[active] == n_groups[active])
        new = active[founded]
        founders[starts[new] + n_groups[new]] = placed[founded]
        n_groups[new] += 1
        done = active[joined | founded]
        head[done] += 1
        group[done] = 0
        active = active[head[active] < starts[active + 1]]
    return founder_of

"""Meaning groups of sampled generations, by the similarity of their embeddings or by their words."""

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence, Set

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, one_of, real_number
from euds.ops.embeddings import check_embeddings
from euds.ops.ragged import check_offsets, read_array
from euds.ops.ranks import check_threads
from euds.types import BoolArray, Int64Array

LINKAGES = ("first_representative", "connected_components")

ROUNDING = 1e-12
"""Slack of a comparison of cosines, so that equal directions reach a similarity of 1."""

_AROUND_WORDS = " .,;:!?\"'`()[]{}\u201c\u201d\u2018\u2019"


def embedding_groups(
    embeddings: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    min_similarity: float,
    linkage: str = "first_representative",
    empty: npt.ArrayLike | None = None,
) -> Int64Array:
    """Group each sample's generations by the cosine similarity of their embeddings.

    Samples do not touch each other, so a corpus is grouped block by block with the same result. Antonyms are close in
    embedding space: check against `entailment_groups` before trusting this on sentiment.
    Source: docs/method.md, "Semantic entropy", estimator `samples`, grouping.

    Args:
        embeddings: (total, H) real numbers, one row a generation; their lengths do not matter. float32 is read as it
            is, without a copy; products are summed in float64.
        offsets: (n + 1,) integers rising from 0 to total; sample i owns embeddings[offsets[i]:offsets[i+1]].
        min_similarity: smallest cosine *similarity* at which two generations mean the same, -1..1; larger: more groups.
            Where a cosine meets it exactly, as orthogonal rows meet 0, float64 and float32 may be grouped otherwise, as
            float64 is rounded at unit norm.
        linkage: "first_representative" (each generation in order joins the first group whose first member is similar
            enough; the order matters) or "connected_components" (groups are what chains of similar pairs connect; the
            order does not matter).
        empty: (total,) booleans, the generations without text: they form one group of their own in each sample,
            whatever their embeddings. None: there are none.

    Returns:
        (total,) int64, groups numbered from 0 within each sample by first appearance. A generation whose embedding has
        no direction (zeros, NaN or infinity) is similar to nothing and stands alone.

    Raises:
        InvalidArgument: embeddings are not a matrix of real numbers, offsets do not rise from 0 to total,
            min_similarity is out of its range, the linkage is unknown, or empty is not one boolean a generation.
    """
    from euds.kernels.grouping_cpp import similarity_groups

    rows = check_embeddings(embeddings)
    starts = check_offsets(offsets, len(rows))
    components = one_of("linkage", linkage, LINKAGES) == "connected_components"
    min_similarity = real_number("min_similarity", min_similarity)
    # Written so that NaN is refused too.
    if not -1 <= min_similarity <= 1:
        raise InvalidArgument(f"min_similarity: must be a cosine similarity, -1..1; got {min_similarity}")
    blank = check_empty(empty, len(rows))
    torch = sys.modules.get("torch")
    n_threads = check_threads(None if torch is None else torch.get_num_threads())
    return similarity_groups(
        rows, starts, blank, least=min_similarity - ROUNDING, components=components, n_threads=n_threads
    )


def label_groups(texts: Sequence[str], *, labels: Sequence[str] | None = None, normalize: bool = True) -> Int64Array:
    """Group generations by their words: equal texts are one group, in every sample alike.

    Args:
        texts: (total,) the generations of all samples, one after another.
        labels: the label words of the task; a text equal to labels[i] gets group i, and every other text a group beyond
            them. None: groups are numbered by first appearance.
        normalize: compare by `normalize_label` (compatibility forms, case, spaces and the punctuation around do not
            matter); otherwise exactly.

    Returns:
        (total,) int64, >= 0; empty texts are one group.

    Raises:
        InvalidArgument: a text or label is no string, or two labels are equal.
    """
    check_strings("labels", labels if labels is not None else [])
    check_strings("texts", texts)
    known = list(labels) if labels is not None else []
    codes, distinct = text_codes([*known, *texts])
    words = [normalize_label(text) for text in distinct] if normalize else distinct
    groups = text_codes(words)[0][codes]
    for at in range(len(known)):
        if groups[at] != at:
            raise InvalidArgument(f"labels: {known[at]!r} and {known[groups[at]]!r} are the same word")
    return groups[len(known) :]


def leading_labels(texts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return for each text the label word that it begins with, the longest of several, or else the text itself.

    Texts and labels are compared by `normalize_label`; a label ends where no letter or digit follows.

    Args:
        texts: generations such as "Positive, I think".
        labels: label words, none of them empty.
    """
    known = sorted(((normalize_label(label), label) for label in labels), key=lambda pair: -len(pair[0]))
    result = []
    for text in texts:
        words = normalize_label(text)
        begins = (
            label for word, label in known if words.startswith(word) and not words[len(word) : len(word) + 1].isalnum()
        )
        result.append(next(begins, text))
    return result


def normalize_label(text: str) -> str:
    """Return a text in compatibility form and folded case, with single spaces, no punctuation or quotes around it."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_AROUND_WORDS)


def label_words_of(labels: Iterable[str]) -> tuple[str, ...]:
    """Return label words in their order, if they are words of their own.

    Raises:
        InvalidArgument: they are one string instead of several, or a set, which has no order; one is no string or
            empty, or two are the same, both by `normalize_label`.
    """
    if isinstance(labels, str | Set):
        what = "string" if isinstance(labels, str) else "set"
        raise InvalidArgument(f"labels: give a list of words, got the {what} {labels!r}")
    given = tuple(labels) if isinstance(labels, Iterable) else labels
    check_strings("labels", given)
    words = [normalize_label(label) for label in given]
    if not all(words) or len(set(words)) < len(words):
        raise InvalidArgument(f"labels: each must be a word of its own, got {', '.join(map(repr, given))}")
    return given


def text_codes(texts: Sequence[str]) -> tuple[Int64Array, list[str]]:
    """Return each text's number by first appearance, (total,) int64, and the different texts in that order."""
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64, len(texts))
    return codes, list(numbers)


def check_strings(name: str, values: Sequence[str]) -> None:
    """Refuse what is no string, a string that stands where several belong, a set, and what can be read only once.

    Raises:
        InvalidArgument: a value is none; the message names the first.
    """
    if isinstance(values, str | Set | Iterator) or not isinstance(values, Iterable):
        raise InvalidArgument(f"{name}: must be a list of strings, got {values!r}")
    for at, value in enumerate(values):
        if not isinstance(value, str):
            raise InvalidArgument(f"{name}: position {at} is no string but {value!r}")


def check_empty(empty: npt.ArrayLike | None, n: int) -> BoolArray:
    """Return `empty` as n booleans, all False for None.

    Raises:
        InvalidArgument: not n booleans.
    """
    given = np.zeros(n, np.bool_) if empty is None else empty
    return as_booleans(f"empty: must be {n} booleans, one a generation", given, n)


def as_booleans(must: str, values: npt.ArrayLike, n: int) -> BoolArray:
    """Return n booleans; an empty array may have any dtype. `must` is what messages begin with.

    Raises:
        InvalidArgument: they are not n booleans, or some are masked.
    """
    array = read_array(must, values)
    if array.shape != (n,) or (n and array.dtype != np.bool_):
        raise InvalidArgument(f"{must}; got {array.dtype} of shape {array.shape}")
    return array.astype(np.bool_)

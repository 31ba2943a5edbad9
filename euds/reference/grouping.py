"""Meaning groups of one sample's generations, as they are defined."""

from collections.abc import Callable, Sequence

import numpy as np

from euds.types import Float64Array

ROUNDING = 1e-12


def by_first_member(n: int, same: Callable[[int, int], bool]) -> list[int]:
    """Group of each of n generations: the first whose first member i is the same as the generation j, same(i, j)."""
    first_members: list[int] = []
    groups = []
    for j in range(n):
        group = next((g for g, i in enumerate(first_members) if same(i, j)), len(first_members))
        if group == len(first_members):
            first_members.append(j)
        groups.append(group)
    return groups


def by_connection(n: int, same: Callable[[int, int], bool]) -> list[int]:
    """Group of each of n generations: what chains of same(i, j) connect, numbered by first appearance."""
    groups = [-1] * n
    for start in range(n):
        if groups[start] >= 0:
            continue
        number, reached = max(groups) + 1, [start]
        for i in reached:
            groups[i] = number
            reached += [j for j in range(n) if groups[j] < 0 and j not in reached and (same(i, j) or same(j, i))]
    return groups


def similar(embeddings: Float64Array, empty: Sequence[bool], min_similarity: float) -> Callable[[int, int], bool]:
    """Return same(i, j) by cosine similarity; the empty are one, and a row without a direction is alone."""

    def same(i: int, j: int) -> bool:
        if empty[i] or empty[j]:
            return empty[i] and empty[j]
        left, right = embeddings[i], embeddings[j]
        norms = float(np.sqrt(left @ left) * np.sqrt(right @ right))
        if not np.isfinite(norms) or norms == 0:
            return False
        return bool(left @ right / norms >= min_similarity - ROUNDING)

    return same


def mutual(texts: Sequence[str], entails: Callable[[str, str], bool]) -> Callable[[int, int], bool]:
    """Return same(i, j) by entailment in both directions; equal texts are the same, and so are the blank, only they."""

    def same(i: int, j: int) -> bool:
        left, right = texts[i].strip(), texts[j].strip()
        if not left or not right:
            return left == right
        return texts[i] == texts[j] or (entails(texts[i], texts[j]) and entails(texts[j], texts[i]))

    return same

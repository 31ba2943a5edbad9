"""How much better the best of many candidates looks by luck alone."""

from statistics import NormalDist

import numpy as np

from euds.errors import InvalidArgument


def luck_bound(trials: int, rows: int, accuracy: float) -> float:
    """Return by how much the best of several equally good candidates is expected to beat their true accuracy.

    The expected maximum of `trials` independent normal accuracies, each with the standard deviation of a share of
    `rows` validation rows. Candidates share these rows and resemble each other, so the truth is smaller: a bound.

    Args:
        trials: candidates compared, >= 1.
        rows: validation rows, >= 1.
        accuracy: what each would truly reach, in 0..1.

    Returns:
        A difference of accuracies, >= 0: 0.023 for 55 trials on 872 rows at 0.9.

    Raises:
        InvalidArgument: a number is out of its range.
    """
    if trials < 1 or rows < 1 or not 0 <= accuracy <= 1:
        raise InvalidArgument(f"trials, rows: must be at least 1, accuracy in 0..1, got {trials}, {rows}, {accuracy}")
    normal = NormalDist()
    points = np.linspace(-10, 10, 4001)
    below, density = (np.array([function(point) for point in points]) for function in (normal.cdf, normal.pdf))
    # E max = integral of x k phi(x) Phi(x)^(k - 1).
    largest = float(np.trapezoid(points * trials * density * below ** (trials - 1), points))
    return max(0.0, largest) * float(np.sqrt(accuracy * (1 - accuracy) / rows))

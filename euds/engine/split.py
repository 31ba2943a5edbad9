"""Divide a run among independent processes, such as the tasks of a Slurm array."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from euds.errors import InvalidArgument


@dataclass(frozen=True)
class Split:
    """Piece `index` of `count`; it scores every count-th task from `index` on."""

    index: int
    count: int

    @classmethod
    def of(cls, text: str, environment: Mapping[str, str] = os.environ) -> "Split":
        """Read "I/N", I from 0 to N - 1, or "slurm" for the array task that this process is.

        Raises:
            InvalidArgument: it is neither, or Slurm's variables are not set.
        """
        if text == "slurm":
            try:
                first = int(environment["SLURM_ARRAY_TASK_MIN"])
                index = int(environment["SLURM_ARRAY_TASK_ID"]) - first
                count = int(environment["SLURM_ARRAY_TASK_COUNT"])
            except KeyError as missing:
                raise InvalidArgument(
                    f"split: {missing.args[0]} is not set; this is no task of a Slurm array"
                ) from None
        else:
            try:
                index, count = map(int, text.split("/"))
            except ValueError:
                raise InvalidArgument(f"split: write I/N, such as 0/8, or slurm; got {text!r}") from None
        if not 0 <= index < count:
            raise InvalidArgument(f"split: the piece must be from 0 to {count - 1}, got {index} of {count}")
        return cls(index, count)

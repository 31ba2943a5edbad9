"""Divide a run among independent processes, such as the tasks of a Slurm array."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from euds.errors import InvalidArgument, instance_of


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
            InvalidType: it is no string.
        """
        instance_of("split", text, str, "I/N, such as '0/8', or 'slurm'")
        if text == "slurm":
            try:
                names = (f"SLURM_ARRAY_TASK_{name}" for name in ("MIN", "ID", "COUNT"))
                first, task, count = (int(environment[name]) for name in names)
                # Slurm tells the step of --array=0-6:2, but not the numbers of --array=1,3,7.
                step = int(environment.get("SLURM_ARRAY_TASK_STEP", 1))
                last = int(environment.get("SLURM_ARRAY_TASK_MAX", first + step * (count - 1)))
            except KeyError as missing:
                raise InvalidArgument(
                    f"split: {missing.args[0]} is not set; this is no task of a Slurm array"
                ) from None
            except ValueError as wrong:
                raise InvalidArgument(
                    f"split: of Slurm's SLURM_ARRAY_TASK_ variables, one is no number: {wrong}"
                ) from None
            if step < 1 or last != first + step * (count - 1) or (task - first) % step:
                raise InvalidArgument(
                    f"split: the {count} tasks of this array are not numbered evenly from {first} to {last}; number "
                    f"the array without gaps (--array=0-{count - 1}), or use --split I/N"
                )
            index = (task - first) // step
        else:
            try:
                index, count = map(int, text.split("/"))
            except ValueError:
                raise InvalidArgument(f"split: write I/N, such as 0/8, or slurm; got {text!r}") from None
        if count < 1:
            raise InvalidArgument(f"split: there must be at least 1 piece, got {text!r}")
        if not 0 <= index < count:
            raise InvalidArgument(f"split: the piece must be from 0 to {count - 1}, got {index} of {count}")
        return cls(index, count)

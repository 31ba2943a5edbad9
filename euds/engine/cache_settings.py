"""Where the scores of earlier runs are kept, and how many of them."""

from dataclasses import dataclass
from pathlib import Path

from euds.corpus.location import local_output
from euds.errors import InputError, InvalidArgument, positive_number

TOKEN_COLUMNS = {"generative": "tokens", "embeddings": "embedder_tokens", "label_words": "label_prompt_tokens"}
"""The stages of scoring whose results are looked up, and the token column that each of them reads."""

DEFAULT_LIMIT_GB = 10.0


@dataclass(frozen=True)
class CacheSettings:
    """The cache of a run; it is no part of what the run is, and may differ when it is resumed.

    Attributes:
        folder: shared by any number of runs and processes, also at the same time.
        limit_bytes: size that the folder is kept within.
    """

    folder: Path
    limit_bytes: int

    @classmethod
    def of(cls, folder: str | Path | None, limit_gb: float | None) -> "CacheSettings | None":
        """Return the settings, with an absolute path, or None without a folder; nothing is written.

        Raises:
            InvalidArgument: the limit is not finite and above 0, there is no folder to limit, or it is empty or a URL.
            InputError: `folder` is a file.
        """
        if folder is None:
            if limit_gb is not None:
                raise InvalidArgument("cache_limit_gb: is the size of a cache; name its folder by --cache, too")
            return None
        limit_gb = DEFAULT_LIMIT_GB if limit_gb is None else positive_number("cache_limit_gb", limit_gb)
        path = local_output(folder, "a folder", "cache").resolve()
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: is a file; --cache names a folder")
        return cls(path, round(limit_gb * 1e9))

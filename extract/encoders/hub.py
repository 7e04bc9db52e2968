"""Weights by name: `OWNER/NAME[@REVISION]` on the Hugging Face hub becomes a local folder.

Everything about the network, offline mode (`HF_HUB_OFFLINE`), the cache (`HF_HOME`) and tokens is
`huggingface_hub`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from avcil.cache.schema import WeightsOrigin
from avcil.errors import EncoderError
from avcil.extract.encoders.weights import FOLDER_FILES, WeightFile
from avcil.files import first_line

NAME = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?")
FILE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
# What a name means where no revision is given, so that it means the same tomorrow. Others are `main`.
PINNED = {
    "MCG-NJU/videomae-base": "dc740ceda42fce44faed2ea03c6d447db72f6af9",
    "MCG-NJU/videomae-large": "12da269a02d3e1fbbb7011e610e591fea8061dca",
}


@dataclass(frozen=True)
class Located:
    """Where weights lie, and the repository (OWNER/NAME) and commit if they came from the hub."""

    path: Path
    repository: str = ""
    commit: str = ""

    def origin(self, file: WeightFile) -> WeightsOrigin:
        """Say where the weights in `file`, which was read from here, came from."""
        if self.repository:
            hub = {"repository": self.repository, "commit": self.commit}
            return WeightsOrigin("hub", file.format, sha256=file.sha256, **hub)
        return WeightsOrigin("file", file.format, file=file.name, sha256=file.sha256)


def locate(weights: str, *, with_config: bool) -> Located:
    """Give the path that `weights` is, or fetch what it names; `with_config`: its `config.json` as well.

    A path that exists is never taken for a name. Raises `EncoderError` where nothing is found.
    """
    path = Path(weights)
    name = NAME.fullmatch(weights)
    if path.exists() or name is None or path.suffix.lower() in FILE_SUFFIXES:
        return Located(path)
    repository = name["repository"]
    revision = name["revision"] or PINNED.get(repository)
    return _fetch(repository, revision, with_config=with_config)


def _fetch(repository: str, revision: str | None, *, with_config: bool) -> Located:
    named = f"{repository}@{revision}" if revision else repository
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise EncoderError(
            f"{named}: there is no such file or folder here, and fetching it from the Hugging Face hub needs "
            "huggingface_hub (avcil's extra `hub`): pip install huggingface_hub"
        ) from error
    try:
        if with_config:  # the weights that follow are of the same commit, whatever is pushed meanwhile
            revision = Path(hf_hub_download(repository, "config.json", revision=revision)).parent.name
        for file in FOLDER_FILES:
            try:
                folder = Path(hf_hub_download(repository, file, revision=revision)).parent
            except EntryNotFoundError:
                if file == FOLDER_FILES[-1]:
                    raise
            else:
                return Located(folder, repository, folder.name)
    except Exception as error:  # whatever the network, the hub or its library throws: no weights
        raise EncoderError(
            f"{named}: there is no such file or folder here, and the Hugging Face hub or its cache gave none "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    raise AssertionError("unreachable: the last file was found or raised")

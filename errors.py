"""The error types that users meet.

Every message says what is wrong, where (file, line, row, key) and what to do. The command line
prints it as one line and leaves with exit code 2; anything that is not an `AvcilError` is a bug.
"""


class AvcilError(Exception):
    """Base of every error that a user can cause and put right."""


class ManifestError(AvcilError):
    """The list of clips cannot be used: a missing file, a bad row, an empty folder."""


class EncoderError(AvcilError):
    """An encoder cannot be built: unknown name, missing or ill-fitting weights."""


class CacheError(AvcilError):
    """A token cache is missing, damaged, foreign or held by another writer."""


class ConfigError(AvcilError):
    """A training configuration or protocol cannot be carried out."""


class RunError(AvcilError):
    """A run folder is missing, incomplete or belongs to another configuration."""


class DecodeError(AvcilError):
    """One clip could not become frames and sound. A value: it crosses process borders.

    `kind` is a stable short word for tables and `failures.csv`; `detail` is for people.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"

"""The token cache: what it holds, how it is written and read.

A cache is a folder: `cache.json` (what the tokens are), `manifest.csv` (which clips), `failures.csv`
(which clips could not be encoded), `flags.csv` (remarks on others) and `shard-*.h5` (the tokens, each row
with its checksum). `docs/cache-format.md` describes every byte.
"""

from avcil.cache.checked_json import SCHEMA_VERSION
from avcil.cache.reader import TokenCache
from avcil.cache.row import Tokens, as_stored
from avcil.cache.row_writer import RowWriter
from avcil.cache.schema import SPLITS, CacheClip, CacheInfo, EncoderInfo, WeightsOrigin
from avcil.cache.synthetic import SyntheticSpec, write_synthetic_cache
from avcil.cache.token_spec import Reduction, TokenSpec
from avcil.cache.writer import CacheWriter

__all__ = [
    "SCHEMA_VERSION",
    "SPLITS",
    "CacheClip",
    "CacheInfo",
    "CacheWriter",
    "EncoderInfo",
    "Reduction",
    "RowWriter",
    "SyntheticSpec",
    "TokenCache",
    "TokenSpec",
    "Tokens",
    "WeightsOrigin",
    "as_stored",
    "write_synthetic_cache",
]

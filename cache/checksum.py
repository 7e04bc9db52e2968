"""Owns the checksum of rows: CRC-32 (ISO-HDLC, that of zlib and gzip) by the fastest code at hand.

zlib-ng folds with carry-less multiplication, which makes checking every row that is read all but free; zlib
gives the same numbers at 2 to 3 GB/s.
"""

try:
    from zlib_ng.zlib_ng import crc32
except ImportError:  # no wheel for this platform
    from zlib import crc32

__all__ = ["crc32"]

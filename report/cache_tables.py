"""What a cache holds in lines, and the classes that lack clips in a table."""

from __future__ import annotations

from collections.abc import Mapping

from avcil.cache.operations.summary import CacheSummary, Coverage
from avcil.cache.schema import CacheInfo, WeightsOrigin
from avcil.report.labels import shortened
from avcil.report.table import Column, Table

NAME_WIDTH = 26


def cache_lines(summary: CacheSummary) -> list[str]:
    """What the tokens are and how much there is of them, a line each."""
    content, total = summary.content, summary.total
    visual, audio = content["visual"], content["audio"]
    lines = [
        f"{total.written} of {total.listed} clips of {len(summary.classes)} classes have tokens",
        f"visual {_shape(visual)}, audio {_shape(audio)}: {_size(summary.clip_bytes)} a clip, "
        f"{summary.disk_bytes / 1e9:.2f} GB in {summary.shards} shard{'s' * (summary.shards != 1)}",
        f"recipe: {content['recipe'].get('name', 'without a name')}; "
        f"precision of the encoders: {content.get('precision', 'unknown')}",
    ]
    if "visual_reduction" in content:
        lines.insert(2, f"visual tokens: {CacheInfo.from_content(content).visual_reduction}")
    for kind in ("visual", "audio"):
        encoder = content[f"{kind}_encoder"]
        weights = WeightsOrigin(**encoder["weights"])
        lines.append(f"{kind} encoder: {encoder['name']} {encoder['fingerprint'][:12]}, {weights}")
    for title, counts in (("failed", summary.failures), ("flagged", summary.flags)):
        if counts:
            lines.append(f"{title}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}")
    return [*lines, f"fingerprint: {summary.fingerprint}"]


def coverage_table(summary: CacheSummary) -> Table:
    """Clips with tokens of every class and split, and the number of listed ones where it is another."""
    return Table(
        "clips with tokens",
        [Column("", "left"), *map(Column, summary.splits)],
        [[shortened(label, NAME_WIDTH), *_cells(splits)] for label, splits in summary.classes.items()],
        foot=["all", *_cells(summary.splits)],
    )


def _cells(splits: Mapping[str, Coverage]) -> list[str]:
    return [
        str(one.written) if one.written == one.listed else f"{one.written} of {one.listed}"
        for one in splits.values()
    ]


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.2f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def _shape(spec: Mapping[str, object]) -> str:
    return f"{spec['shape']} {spec['dtype']}"

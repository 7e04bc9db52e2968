"""Options that several commands have: each with its help and its choices, declared once.

The choices repeat types of the rooms that cannot be imported without numpy or torch;
`tests/commands/test_options.py` holds the two together.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Decoder = Annotated[Literal["auto", "pyav", "decord"], typer.Option(help="The library that decodes.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Decoding processes; 0 decodes here.", show_default="cores")
]
Batch = Annotated[
    int | None, typer.Option(min=1, help="Clips per encoder pass.", show_default="8, 32 on a GPU")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")]
AllowMissing = Annotated[
    Literal["audio"] | None, typer.Option(help="Take clips without sound as silent; a cache flags them.")
]
TokenStorage = Annotated[
    Literal["float16", "float32", "int8"],
    typer.Option(help="How visual tokens are stored; int8 takes half of float16."),
]
TokenGrid = Annotated[
    int | None, typer.Option(min=1, help="Average the places of visual tokens to N x N.", metavar="N")
]
RecordedWeights = Annotated[
    str | None, typer.Option(help="Where the encoder's weights are.", show_default="as recorded")
]
OwnEncoder = Annotated[str | None, typer.Option(help="package.module:factory, for one of your own.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for other programs.")]
AsLatex = Annotated[bool, typer.Option("--latex", help="Print LaTeX, with booktabs.")]

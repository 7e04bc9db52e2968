"""The choices of options are those of the rooms behind them."""

from typing import Any, get_args

import pytest

from avcil.cache.operations.export import Form
from avcil.cache.token_spec import Statistics
from avcil.commands import cache, evaluate, extract, options
from avcil.extract.media.contract import Backend, Track
from avcil.extract.recipe import RECIPES
from avcil.extract.sources.manifest import Format
from avcil.extract.tokens import Precision, TokenType
from avcil.train.record.results import Split


def choices(option: Any) -> tuple[str, ...]:
    """The words of `Annotated[Literal[...], ...]`, which may be optional."""
    kind = get_args(option)[0]
    return next((get_args(part) for part in get_args(kind) if get_args(part)), get_args(kind))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (options.Decoder, get_args(Backend)),
        (options.AllowMissing, get_args(Track)),
        (options.TokenStorage, get_args(TokenType)),
        (extract.ListFormat, get_args(Format)),
        (extract.EncoderPrecision, get_args(Precision)),
        (extract.RecipeName, tuple(RECIPES)),
        (extract.PooledStatistics, get_args(Statistics)),
        (cache.CopiedStatistics, get_args(Statistics)),
        (cache.ExportForm, get_args(Form)),
        (evaluate.EvaluatedSplit, get_args(Split)),
    ],
)
def test_choices_are_those_of_the_room(option: Any, words: tuple[str, ...]) -> None:
    assert set(choices(option)) == set(words)

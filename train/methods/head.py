"""Heads: how the clips of a finished step get one score per class, and what is kept for that.

Letters: n clips, C classes seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from avcil.train.network.inference import logits
from avcil.train.network.model import AudioVisualNetwork
from avcil.train.tokens.batches import StepTokens

if TYPE_CHECKING:
    from avcil.train.methods.method import StepContext


@dataclass(frozen=True)
class Head(ABC):
    """How a method classifies.

    One that keeps something beside the network, such as class means or sums over clips, is a frozen dataclass
    of tensors, each None by default: they are saved with every step and given to the constructor by name.

    Attributes:
        settings: of the method, in its own type.
        log_probabilities: scores are log-probabilities up to a constant, so their softmax says something.
        needs_exemplars: every class seen must have an exemplar, those of the last step too.
    """

    log_probabilities: ClassVar[bool] = False
    needs_exemplars: ClassVar[bool] = False
    settings: Any = field(default=None, kw_only=True, repr=False)

    @classmethod
    def restored(cls, settings: Any, kept: Mapping[str, Tensor]) -> Head:
        """The head that kept these tensors with a step."""
        return cls(settings=settings, **kept)

    @abstractmethod
    def grow(self, context: StepContext) -> Head:
        """A head for the classes of a step too: this one is of the step before, or as constructed at step 0.

        Called at the step's end and after every epoch that is validated; `context.student` is as it is then.
        """

    def while_training(self, context: StepContext) -> Head:
        """The head that epochs are validated with: by default the one that would be kept now."""
        return self.grow(context)

    @abstractmethod
    def scores(self, network: AudioVisualNetwork, tokens: StepTokens) -> Tensor:
        """Scores [n, C] of all clips for all classes seen; the highest one wins."""

    def state(self) -> dict[str, Tensor]:
        """What is kept beside the network, by the names of its fields."""
        kept = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: tensor for name, tensor in kept.items() if isinstance(tensor, Tensor)}


@dataclass(frozen=True)
class NetworkHead(Head):
    """The output layer's own scores."""

    log_probabilities: ClassVar[bool] = True

    def grow(self, context: StepContext) -> Head:
        """Nothing is kept: the layer grows with its network."""
        return self

    def scores(self, network: AudioVisualNetwork, tokens: StepTokens) -> Tensor:
        """The layer's scores [n, C]."""
        return logits(network, tokens)


@dataclass(frozen=True)
class Classifier:
    """How a finished step classifies, whatever its method is; from `load_classifier`.

    Attributes:
        network: the selected network; without parameters where the method trains none.
        head: what turns clips into scores, with it or without.
    """

    network: AudioVisualNetwork
    head: Head

    @property
    def log_probabilities(self) -> bool:
        """Whether the softmax of the scores is a probability."""
        return self.head.log_probabilities

    def scores(self, tokens: StepTokens) -> Tensor:
        """Scores [n, C] of all clips for all classes seen, in the method's own units."""
        return self.head.scores(self.network, tokens)

    def columns(self, tokens: StepTokens) -> Tensor:
        """The predicted column [n] of every clip; of equal scores the first column's."""
        return self.scores(tokens).argmax(dim=1)

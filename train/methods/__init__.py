"""The methods by name. A new method is one file here and one line in `METHODS`."""

from avcil.errors import ConfigError
from avcil.train.methods.avcil import AVCIL
from avcil.train.methods.contract import Batch, Method, Objective, StepContext
from avcil.train.methods.finetune import FINETUNE
from avcil.train.methods.upper_bound import UPPER_BOUND

METHODS: dict[str, Method] = {method.name: method for method in (FINETUNE, AVCIL, UPPER_BOUND)}


def find_method(name: str, modality: str) -> Method:
    """The method `name`, if it exists and has the modality.

    Raises:
        ConfigError: neither.
    """
    if name not in METHODS:
        raise ConfigError(f"method {name!r} is unknown; choose one of {', '.join(METHODS)}")
    method = METHODS[name]
    if modality not in method.modalities:
        raise ConfigError(
            f"method {name!r} has no modality {modality!r}; choose {' or '.join(method.modalities)}"
        )
    return method


__all__ = ["METHODS", "Batch", "Method", "Objective", "StepContext", "find_method"]

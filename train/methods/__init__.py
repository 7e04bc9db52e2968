"""The methods by name. A new method is one file here and one line in `METHODS`.

A method of one's own needs neither: it is named `package.module:NAME` (`examples/nearest_class_mean.py`).
"""

from avcil.errors import ConfigError
from avcil.train.methods.afc import AFC_LSC, AFC_NME
from avcil.train.methods.avcil import AVCIL
from avcil.train.methods.contract import AttentionObjective, Batch, Method, Objective, Readout, StepContext
from avcil.train.methods.finetune import FINETUNE
from avcil.train.methods.icarl import ICARL_FC, ICARL_NME
from avcil.train.methods.lwf import LWF
from avcil.train.methods.ssil import SSIL
from avcil.train.methods.upper_bound import UPPER_BOUND
from avcil.user_code import find_object, is_user_code

METHODS: dict[str, Method] = {
    method.name: method
    for method in (FINETUNE, LWF, ICARL_NME, ICARL_FC, SSIL, AFC_NME, AFC_LSC, AVCIL, UPPER_BOUND)
}


def find_method(name: str, modality: str) -> Method:
    """The method `name`, ours or `package.module:NAME`, if it exists and has the modality.

    Raises:
        ConfigError: neither.
    """
    if is_user_code(name):
        found = find_object(f"--method {name}", name, ConfigError)
        if not isinstance(found, Method):
            raise ConfigError(f"--method {name}: it is a {type(found).__name__}, not a Method")
        method = found
    elif name in METHODS:
        method = METHODS[name]
    else:
        raise ConfigError(
            f"method {name!r} is unknown; choose one of {', '.join(METHODS)}, or give your own as "
            "package.module:NAME"
        )
    if modality not in method.modalities:
        raise ConfigError(
            f"method {name!r} has no modality {modality!r}; choose {' or '.join(method.modalities)}"
        )
    return method


__all__ = [
    "METHODS",
    "AttentionObjective",
    "Batch",
    "Method",
    "Objective",
    "Readout",
    "StepContext",
    "find_method",
]

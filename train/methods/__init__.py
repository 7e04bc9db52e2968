"""The methods by name, in the order of the published tables. Only loading one of them needs torch.

A new method is a file here and a line in `METHODS`. A method of one's own needs neither: it is named
`package.module:NAME` (`examples/nearest_class_mean.py`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from avcil.errors import ConfigError
from avcil.user_code import find_object, is_user_code

if TYPE_CHECKING:
    from avcil.train.methods.method import Method

METHODS = {  # name -> module here, and what the method is called in it
    "finetune": "baselines:FINETUNE",
    "lwf": "lwf:LWF",
    "icarl-nme": "icarl:ICARL_NME",
    "icarl-fc": "icarl:ICARL_FC",
    "ss-il": "ssil:SSIL",
    "afc-nme": "afc:AFC_NME",
    "afc-lsc": "afc:AFC_LSC",
    "avcil": "avcil:AVCIL",
    "upper-bound": "baselines:UPPER_BOUND",
    # exemplar-free, in closed form
    "best": "statistics.best:BEST",
    "ncm": "statistics.gaussian:NCM",
    "slda": "statistics.gaussian:SLDA",
    "klda": "statistics.gaussian:KLDA",
    "fecam": "statistics.fecam:FECAM",
    "ranpac": "statistics.ridge:RANPAC",
    "acil": "statistics.ridge:ACIL",
    "air": "statistics.ridge:AIR",
    "dsal": "statistics.compensated:DSAL",
    "mmal": "statistics.compensated:MMAL",
}


def find_method(name: str) -> Method:
    """Load the method `name`, ours or `package.module:NAME`.

    Raises:
        ConfigError: there is none.
    """
    from avcil.train.methods.method import Method

    if name in METHODS:
        module, _, attribute = METHODS[name].partition(":")
        found: object = getattr(import_module(f"{__name__}.{module}"), attribute)
    elif is_user_code(name):
        found = find_object(f"--method {name}", name, ConfigError)
    else:
        raise ConfigError(
            f"method {name!r} is unknown; choose one of {', '.join(METHODS)}, or give your own as "
            "package.module:NAME"
        )
    if not isinstance(found, Method):
        raise ConfigError(f"--method {name}: it is a {type(found).__name__}, not a Method")
    return found

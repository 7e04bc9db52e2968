"""Code of a user, found by name: `package.module:name` in, the object out."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from avcil.errors import AvcilError


def is_user_code(name: str) -> bool:
    """Say whether a name points to an object in a module."""
    return ":" in name


def find_object(option: str, name: str, error: type[AvcilError]) -> object:
    """The object `package.module:name`; modules are looked for as Python does, then in the current folder.

    Args:
        option: what to call it in messages.
        name: module and attribute.
        error: what to raise where there is no such module or attribute.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # the installed command does not search there by itself
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as problem:  # importing runs a user's code
        reason = f"{type(problem).__name__}: {problem}"
        raise error(
            f"{option}: cannot import {module_name!r} ({reason}); it is looked for among the installed "
            f"packages and in {here}"
        ) from problem
    if not hasattr(module, attribute):
        raise error(f"{option}: {module_name!r} has no {attribute!r}")
    return getattr(module, attribute)

"""Functions and networks from a user's Python file, for the command line."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpyro.distributions import Distribution

from nnmm_jax.errors import InputError, shortlist


def function_of_file(text: str) -> tuple[Callable[..., Any], dict[str, Distribution] | None]:
    """Load ``path/to/file.py:function``, with the priors ``theta`` of the same file if it has any.

    The file is executed, as any Python program would be.

    Raises
    ------
    InputError
        If there is no such file or function, or the file cannot be executed.
    """
    module, name, what = object_of_file(text, "--activation")
    function = getattr(module, name)
    if not callable(function):
        raise InputError(f"{what}: expected a function, found {type(function).__name__}")
    theta = getattr(module, "theta", None)
    if theta is not None and not isinstance(theta, Mapping):
        raise InputError(
            f"{what}: expected theta to be a dict of NumPyro distributions, found "
            f"{type(theta).__name__}"
        )
    return function, None if theta is None else dict(theta)


def object_of_file(text: str, flag: str) -> tuple[Any, str, str]:
    """Execute the file of ``path/to/file.py:name``; return the module, the name, and both as text.

    Raises
    ------
    InputError
        If there is no such file or name, or the file cannot be executed.
    """
    path, _, name = text.rpartition(":")
    file = Path(path)
    if not name.isidentifier() or file.suffix != ".py" or not file.is_file():
        raise InputError(
            f"{flag}: expected path/to/file.py:name of a file that exists, found {text!r}"
        )
    spec = importlib.util.spec_from_file_location(f"nnmm_user_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{flag} {file}: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        known = [one for one in vars(module) if not one.startswith("_")]
        raise InputError(f"{flag} {file}: expected {name!r} there, found {shortlist(known)}")
    return module, name, f"{flag} {text}"

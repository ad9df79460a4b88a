"""Libraries that only some formats need."""

from importlib import import_module
from typing import Any

from nnmm_jax.errors import InputError


def needed(module: str, source: str) -> Any:
    """Import a library of the extra ``formats``.

    Parameters
    ----------
    module
        Name of the module.
    source
        What is to be read or written with it, for messages.

    Returns
    -------
    module

    Raises
    ------
    InputError
        It is not installed.

    Examples
    --------
    >>> needed("json", "genotypes g.json").dumps([1])
    '[1]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"{source}: expected the library {module.replace('_', '-')} for this format, found it "
            "not installed; run pip install 'nnmm_jax[formats]'"
        ) from error

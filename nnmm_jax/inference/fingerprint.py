"""Digests by which a checkpoint knows whether it is of this run."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from nnmm_jax.data.align import Dataset
from nnmm_jax.inference import fixed_point
from nnmm_jax.inference.blocks.effects import is_quick
from nnmm_jax.inference.prepare import Prepared
from nnmm_jax.inference.run_settings import RunSettings
from nnmm_jax.network.activations import ACTIVATIONS, Activation

_NOT_OF_DATA = ("report",)  # says what was read, not what there is
# What may differ when a run goes on: how long it is to be, and what is shown of it.
_MAY_CHANGE = ("samples", "until_ess", "max_samples", "max_minutes", "progress")
_VERSIONS = ("nnmm_jax", "jax", "jaxlib", "numpyro", "numpy")


def fingerprint(
    dataset: Dataset,
    network: Mapping[str, object],
    prepared: Prepared,
    settings: RunSettings,
    versions: Mapping[str, str],
) -> dict[str, str]:
    """Digests of what the draws of a run depend on.

    Parameters
    ----------
    dataset : Dataset
    network : mapping
        The network as JSON can hold it.
    prepared : Prepared
        Of the two; a user's function is known by the operations that JAX makes of it.
    settings : RunSettings
    versions : mapping of str to str
        Of packages.

    Returns
    -------
    dict of str to str
        ``data``, ``network``, ``settings``, ``versions`` and ``machine``.
    """
    chosen = {
        name: value
        for name, value in dataclasses.asdict(settings).items()
        if name not in _MAY_CHANGE
    }
    device = jax.devices()[0]
    machine = [
        device.platform,
        device.device_kind,
        str(jnp.result_type(float)),
        is_quick(),
        fixed_point.available(),
    ]
    operations = _operations(prepared.activation, len(prepared.node_names))
    return {
        "data": digest(dataset),
        "network": digest([json.dumps(network, sort_keys=True), operations]),
        "settings": digest(chosen),
        "versions": digest({name: versions[name] for name in _VERSIONS}),
        "machine": digest(machine),
    }


def _operations(activation: Activation, n_nodes: int) -> list[object]:
    """What a user's function does, whatever its name."""
    if activation.name in ACTIVATIONS:
        return []
    theta = activation.parameters.constrain(jnp.zeros(activation.parameters.size))
    made = jax.make_jaxpr(activation.function)(jnp.ones((n_nodes, 2)), theta)
    text = re.sub(r"0x[0-9a-f]+", "", str(made))  # where functions are in memory
    return [text, *(np.asarray(one) for one in made.consts)]


def digest(value: object) -> str:
    """Digest of arrays, tables, texts and numbers, and of what is made of them.

    Examples
    --------
    >>> digest({"a": 1}) == digest({"a": 1}), digest({"a": 1}) == digest({"a": 1.0})
    (True, False)
    """
    found = hashlib.blake2b(digest_size=16)
    _feed(found, value)
    return found.hexdigest()


def _feed(found: Any, value: object) -> None:
    """Add a value and what it is, so that values that read alike differ."""
    found.update(f"<{type(value).__name__}>".encode())
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        found.update(f"{value.dtype.str}{value.shape}".encode())
        found.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    elif isinstance(value, np.ndarray):
        found.update(repr(value.tolist()).encode())
    elif isinstance(value, pd.DataFrame):
        for name, column in {"": value.index.to_series(), **value}.items():
            found.update(f"{name!r} {column.dtype}".encode())
            found.update(repr(column.tolist()).encode())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.name not in _NOT_OF_DATA:
                found.update(field.name.encode())
                _feed(found, getattr(value, field.name))
    elif isinstance(value, Mapping):
        for name, one in value.items():
            found.update(repr(name).encode())
            _feed(found, one)
    elif isinstance(value, list | tuple):
        for one in value:
            _feed(found, one)
    elif value is None or isinstance(value, str | int | float | np.generic):
        found.update(repr(value).encode())
    else:
        raise TypeError(f"no digest of {type(value).__name__}")

"""Individuals spread over devices: JAX partitions the programs, this says where arrays lie.

What grows with individuals and markers, the genotypes first of all, is cut along the individuals;
states and draws, which are far smaller, are whole on every device. Random numbers are drawn as on
one device, so that draws differ by the rounding of sums only.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Wrapped

from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import MISSING_CODE, MarkerMatrix, ModelData
from nnmm_jax.inference.blocks.complete import without_sums

_AXIS = "individual"


@lru_cache(maxsize=16)
def _mesh(count: int) -> Mesh:
    return Mesh(np.asarray(jax.devices()[:count]), (_AXIS,))


@dataclass(frozen=True)
class Layout:
    """How many devices a run is spread over.

    Attributes
    ----------
    count : int
        Devices, the first ones of all that JAX sees, those of other processes too
        (``jax.distributed``).

    Raises
    ------
    InputError
        If there are not so many.

    Examples
    --------
    >>> Layout(1).compiled(lambda x: x + 1)(1).item()
    2
    """

    count: int = 1

    def __post_init__(self) -> None:
        """Check that the devices are there."""
        # One is there: asking would start JAX, after which nothing of it can be set.
        if self.count > 1 and self.count > (found := jax.device_count()):
            raise InputError(
                f"devices: expected at most the {found} that JAX sees, found {self.count}; on "
                "several machines start jax.distributed first"
            )

    def compiled(self, function: Callable[..., Any]) -> Wrapped:
        """Compile a function, whose results are whole on every device."""
        if self.count == 1:
            return jax.jit(function)
        return jax.jit(function, out_shardings=self._whole)

    def everywhere(self, tree: Any) -> Any:
        """Put arrays on every device, whole."""
        if self.count == 1:
            return tree
        return jax.tree.map(lambda leaf: _put(leaf, self._whole), tree)

    def spread(self, data: ModelData) -> ModelData:
        """Cut what is along individuals or records; the rest is whole on every device.

        Genotypes of a number of individuals that the devices do not divide are padded; other
        arrays are then whole on every device.
        """
        if self.count == 1:
            return data
        data = without_sums(data)  # which the devices would all have whole
        padded = jax.tree.map(
            self._padded, data, is_leaf=lambda node: isinstance(node, MarkerMatrix)
        )
        sizes = (data.z_start.shape[1], data.y.shape[0])
        divided = {size + -size % self.count for size in sizes}

        def placed(leaf: jax.Array) -> jax.Array:
            cut = leaf.ndim > 1 and leaf.shape[-1] in divided
            return _put(leaf, self._cut(leaf.ndim) if cut else self._whole)

        return jax.tree.map(placed, padded)

    def _padded(self, node: Any) -> Any:
        if not isinstance(node, MarkerMatrix) or not (short := -node.n_records % self.count):
            return node
        # Centred values that are 0, as missing genotypes are.
        integers = jnp.issubdtype(node.codes.dtype, jnp.integer)
        filling = MISSING_CODE if integers and not node.whole else 0
        codes = jnp.pad(node.codes, ((0, 0), (0, short)), constant_values=filling)
        return replace(node, codes=codes, n_idle=short)

    def _cut(self, ndim: int) -> NamedSharding:
        return NamedSharding(_mesh(self.count), PartitionSpec(*([None] * (ndim - 1)), _AXIS))

    @property
    def _whole(self) -> NamedSharding:
        return NamedSharding(_mesh(self.count), PartitionSpec())


def _put(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    """Lay an array that every process has out over the devices of all of them."""
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        bits = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(leaf))
    here = np.asarray(leaf)
    return jax.make_array_from_callback(here.shape, sharding, lambda index: here[index])

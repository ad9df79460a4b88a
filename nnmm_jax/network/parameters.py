"""Parameters theta of a user's function: priors in NumPyro, one unconstrained vector inside."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import Distribution, biject_to

from nnmm_jax.errors import InputError


@dataclass(frozen=True, eq=False)
class Parameters:
    """Named parameters with independent priors.

    Attributes
    ----------
    priors : mapping of str to numpyro.distributions.Distribution
        Continuous, of any shape.

    Raises
    ------
    InputError
        If a prior is not a continuous distribution, or a name cannot be part of a variable's name.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> theta = Parameters({"K": dist.LogNormal(0.0, 1.0), "V": dist.Normal(0.0, 1.0)})
    >>> {name: float(value) for name, value in theta.constrain(jnp.zeros(theta.size)).items()}
    {'K': 1.0, 'V': 0.0}
    """

    priors: Mapping[str, Distribution] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Check the priors."""
        if not isinstance(self.priors, Mapping):
            raise InputError(
                f"theta: expected a dict of names and NumPyro distributions, found {self.priors!r}"
            )
        for name, prior in self.priors.items():
            if not str(name).isidentifier():
                raise InputError(f"theta: expected names such as 'K', found {name!r}")
            if not isinstance(prior, Distribution) or prior.support.is_discrete:
                raise InputError(
                    f"theta: expected a continuous NumPyro distribution as the prior of {name!r}, "
                    f"found {prior!r}"
                )
            _check_proper(name, prior)
        object.__setattr__(self, "priors", MappingProxyType(dict(self.priors)))

    @property
    def size(self) -> int:
        """Length of the unconstrained vector."""
        return sum(math.prod(self._unconstrained_shape(name)) for name in self.priors)

    def _unconstrained_shape(self, name: str) -> tuple[int, ...]:
        prior = self.priors[name]
        return tuple(biject_to(prior.support).inverse_shape(prior.shape()))

    def _pieces(self, flat: Array) -> dict[str, Array]:
        found, start = {}, 0
        for name in self.priors:
            shape = self._unconstrained_shape(name)
            found[name] = flat[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)
        return found

    def constrain(self, flat: Array) -> dict[str, Array]:
        """Parameters by name of an unconstrained vector."""
        return {
            name: biject_to(self.priors[name].support)(piece)
            for name, piece in self._pieces(flat).items()
        }

    def unconstrain(self, theta: Mapping[str, Array]) -> Array:
        """Unconstrained vector of parameters: the inverse of :meth:`constrain`."""
        pieces = [
            jnp.ravel(biject_to(prior.support).inv(theta[name]))
            for name, prior in self.priors.items()
        ]
        return jnp.concatenate(pieces) if pieces else jnp.zeros(0)

    def log_prior(self, flat: Array) -> Array:
        """Log prior density of the unconstrained vector, Jacobian included."""
        total = jnp.zeros((), flat.dtype)
        for name, piece in self._pieces(flat).items():
            prior = self.priors[name]
            transform = biject_to(prior.support)
            value = transform(piece)
            total = total + jnp.sum(prior.log_prob(value))
            total = total + jnp.sum(transform.log_abs_det_jacobian(piece, value))
        return total

    def sample(self, key: Array) -> Array:
        """Draw an unconstrained vector from the priors."""
        keys = jax.random.split(key, max(len(self.priors), 1))
        drawn = {
            name: prior.sample(one)
            for one, (name, prior) in zip(keys, self.priors.items(), strict=False)
        }
        return self.unconstrain(drawn)

    def median(self) -> Array:
        """Return an unconstrained vector in the middle of the priors: medians of many draws."""
        if not self.priors:
            return jnp.zeros(0)
        with jax.ensure_compile_time_eval():
            many = jax.vmap(self.sample)(jax.random.split(jax.random.key(0), 1001))
            return jnp.median(many, axis=0)


def prior_text(prior: Distribution) -> str:
    """Distribution with its arguments, as text.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> prior_text(dist.LogNormal(0.0, 1.0))
    'LogNormal(loc=0.0, scale=1.0)'
    """
    inside = getattr(prior, "base_dist", None)
    names = [name for name in prior.arg_constraints if name in vars(prior)]
    parts = [f"{name}={np.asarray(getattr(prior, name)).tolist()}" for name in names]
    if not names and isinstance(inside, Distribution):
        parts = [prior_text(inside)]
    shape = f", shape={prior.shape()}" if prior.shape() else ""
    return f"{type(prior).__name__}({', '.join(parts)}{shape})"


def _check_proper(name: str, prior: Distribution) -> None:
    """Draws must be possible, and differ."""
    try:
        many = np.asarray(jax.vmap(prior.sample)(jax.random.split(jax.random.key(0), 16)))
    except NotImplementedError:
        many = None
    if many is None or not np.isfinite(many).all() or (many == many[:1]).all():
        raise InputError(
            f"theta: expected a proper distribution with a variance as the prior of {name!r}, "
            f"found {type(prior).__name__}; use for instance a Normal with a large scale"
        )

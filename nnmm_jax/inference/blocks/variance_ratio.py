"""Move the variances of a term and of the residual together, the term's values integrated out.

Gibbs draws of a variance given the genetic values, and of these given the variance, creep where
the data say little about the share of each. In the eigenvectors' coordinates the values integrate
out of the likelihood at the cost of one sum over the eigenvalues, fixed effects staying as they
are; the values and the fixed effects must be drawn anew right afterwards (a partially collapsed
Gibbs sampler, van Dyk & Park 2008, Journal of the American Statistical Association 103:790).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax, random

from nnmm_jax.inference import noise
from nnmm_jax.inference.arrays import EffectHyper, ResidualHyper, inner_products

N_STEPS = 4  # Metropolis steps on the log ratio; each costs sums over the eigenvalues
LEAST = 0.25  # information: steps stay below 5


class Ratio(NamedTuple):
    """What the density of ``x = log(variance of the term / residual variance)`` depends on.

    With ``projected_i ~ N(0, var_e (1 + s_i exp(x)))`` the rest of the response has a sum of
    squares of ``outside``; these are ``deviations`` deviations in all.

    Attributes
    ----------
    values : (rank,)
        Eigenvalues s of the term.
    squares : (response, rank)
        Of the response without all else, in the eigenvectors' coordinates.
    outside, deviations : (response,)
        Of what else is normal with the residual variance (or one relative to it).
    hyper : EffectHyper
        Of the term's variance.
    residual_hyper : ResidualHyper
    var_e : (response,)
        Where it is fixed it stays.
    """

    values: Array
    squares: Array
    outside: Array
    deviations: Array
    hyper: EffectHyper
    residual_hyper: ResidualHyper
    var_e: Array

    def total(self, x: Array) -> Array:
        """Sum of squares (response,) relative to the residual variance, priors included."""
        return self._at(x)[0]

    def log_density(self, x: Array) -> tuple[Array, Array]:
        """Log density (response,) of x, and the size of a step there.

        The residual variance given x is inverse gamma, with the rate ``b(x)`` and the shape ``a =
        (deviations + df_e + df) / 2``. What moves is x with the ratio ``b(x) / var_e`` kept, which
        is gamma whatever x is: the density of x is then that with the residual variance integrated
        out, ``b(x)**-a``. The step is 2.4 standard deviations by Fisher's information.
        """
        total, share = self._at(x)
        df, fixed = self.hyper.df, self.residual_hyper.fixed
        degrees = self.deviations + df + jnp.where(fixed, 0.0, self.residual_hyper.df)
        misfit = jnp.where(fixed, total / self.var_e, degrees * jnp.log(total / degrees))
        logs = jnp.sum(jnp.log1p(self.values * jnp.exp(x)[:, None]), axis=-1)
        known = jnp.sum(share, axis=-1) ** 2 / degrees
        information = jnp.sum(share**2, axis=-1) - jnp.where(fixed, 0.0, known) + df
        return -0.5 * (logs + misfit + df * x), 2.4 / jnp.sqrt(0.5 * information + LEAST)

    def _at(self, x: Array) -> tuple[Array, Array]:
        scaled = self.values * jnp.exp(x)[:, None]
        inverse = 1.0 / (1.0 + scaled)
        prior = self.hyper.df * self.hyper.scale * jnp.exp(-x)
        residual = self.residual_hyper
        prior = prior + jnp.where(residual.fixed, 0.0, residual.df * residual.scale)
        total = inner_products(self.squares, inverse) + self.outside + prior
        return total, scaled * inverse


def ratio_move(key: Array, level: Array, ratio: Ratio) -> tuple[Array, Array]:
    """Return new variances (response,) of the term and of the residual.

    Parameters
    ----------
    level : (response,)
        Variance of the term.
    """
    start = jnp.log(level / ratio.var_e)
    key_step, key_accept = random.split(key)
    shape, dtype = (N_STEPS, *start.shape), start.dtype
    luck = noise.normal(key_step, shape, dtype)
    log_u = jnp.log(noise.uniform(key_accept, shape, dtype))

    def move(
        carry: tuple[Array, Array, Array], draws: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array, Array], None]:
        x, log, step = carry
        new = x + step * draws[0]
        new_log, new_step = ratio.log_density(new)
        # The step depends on where it starts: the density of the way back belongs to it.
        back = 0.5 * draws[0] ** 2 * (1.0 - (step / new_step) ** 2) + jnp.log(step / new_step)
        accepted = draws[1] < new_log - log + back
        moved = zip((new, new_log, new_step), carry, strict=True)
        x, log, step = (jnp.where(accepted, one, old) for one, old in moved)
        return (x, log, step), None

    begin = (start, *ratio.log_density(start))
    (x, _, _), _ = lax.scan(move, begin, (luck, log_u))
    scale = jnp.where(ratio.residual_hyper.fixed, 1.0, ratio.total(x) / ratio.total(start))
    var_e = ratio.var_e * scale
    return jnp.exp(x) * var_e, var_e

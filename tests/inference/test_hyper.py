"""Hyperparameters: prior means give the stated shares, units drop out, what is given is used."""

import numpy as np
import pytest

from nnmm_jax import GBLUP, RRBLUP, BayesA, BayesB, BayesC, BayesL, BayesR, InputError, Residual
from nnmm_jax.inference.hyper import Responses, effect_hyper, residual_hyper, resolve_shares

pytestmark = pytest.mark.usefixtures("double")
RESPONSES = Responses(np.asarray([1.0, 4.0]), np.asarray([10.0, 0.1]), residual_share=0.7)
UNIT2 = RESPONSES.unit**2


def mean_explained(prior, hyper, total):
    """Prior mean (response,) of the variance that effects explain, from the hyperparameters."""
    df, scale = np.asarray(hyper.df), np.asarray(hyper.scale)
    shape, rate = np.asarray(hyper.shape), np.asarray(hyper.rate)
    if hyper.family == "common":
        variance = df * scale / (df - 2)
    elif hyper.family == "own":
        variance = df / (df - 2) * (scale if hyper.known else shape / rate)
    else:  # E[tau2] = 2 E[1 / lambda2]; times the prior mean of the residual variance
        variance = 2 * rate / (shape - 1) * RESPONSES.residual_share * RESPONSES.variance
    return variance * prior.expected_multiplier * total


@pytest.mark.parametrize(
    "prior",
    [
        RRBLUP(df=6.0),
        GBLUP(),
        BayesA(),
        BayesA(shape=2.0, df=3.0),
        BayesB(pi=0.9),
        BayesC(pi_counts=(9.0, 1.0)),
        BayesL(),
        BayesL(shape=3.0),
        BayesR(),
        BayesR(mixture=(0, 1, 2), weights=(0.5, 0.25, 0.25)),
    ],
    ids=str,
)
def test_prior_mean_of_the_explained_variance_is_the_share(prior):
    hyper = effect_hyper(prior, RESPONSES, 0.3, total=25.0)
    np.testing.assert_allclose(mean_explained(prior, hyper, 25.0), 0.3 * RESPONSES.variance)


def test_a_given_scale_is_in_the_users_units():
    """Internal variances are the user's divided by the unit squared; rates the other way round."""
    for prior in (RRBLUP(scale=3.0), BayesC(scale=3.0), BayesR(scale=3.0), BayesA(scale=3.0)):
        hyper = effect_hyper(prior, RESPONSES, 0.3, total=25.0)
        np.testing.assert_allclose(hyper.scale, 3.0 / UNIT2)
    np.testing.assert_allclose(
        effect_hyper(RRBLUP(variance=2.0), RESPONSES, 0.3, 25.0).scale, 2.0 / UNIT2
    )
    np.testing.assert_allclose(
        effect_hyper(GBLUP(variance=2.0), RESPONSES, 0.3, 25.0, factor=8.0).scale, 2.0 / 8 / UNIT2
    )
    hyper = effect_hyper(BayesB(shape=2.0, rate=5.0), RESPONSES, 0.3, 25.0)
    np.testing.assert_allclose(hyper.rate, 5.0 * UNIT2)
    np.testing.assert_allclose(hyper.shape, 2.0)
    lasso = effect_hyper(BayesL(rate=5.0), RESPONSES, 0.3, 25.0)
    np.testing.assert_allclose(lasso.rate, 5.0)  # lambda is relative to the residual
    np.testing.assert_allclose(effect_hyper(BayesL(lambda2=7.0), RESPONSES, 0.3, 25.0).scale, 7.0)


@pytest.mark.parametrize(
    ("prior", "known", "estimated"),
    [
        (RRBLUP(), False, False),
        (RRBLUP(variance=1.0), True, False),
        (BayesA(scale=1.0), True, False),
        (BayesB(), False, True),
        (BayesC(pi=0.5, variance=1.0), True, False),
        (BayesL(lambda2=1.0), True, False),
        (BayesR(), False, True),
    ],
)
def test_what_is_known_is_not_sampled(prior, known, estimated):
    hyper = effect_hyper(prior, RESPONSES, 0.3, total=25.0)
    assert (hyper.known, hyper.estimate_weights) == (known, estimated)


def test_residual_hyper():
    latent = np.asarray([False, True])
    default = residual_hyper(Residual(df=6.0), RESPONSES, latent)
    np.testing.assert_allclose(default.scale, [0.7 * 4 / 6, 0.7 * 4.0])
    np.testing.assert_array_equal(default.fixed, latent)
    given = residual_hyper(Residual(df=1.0, scale=3.0), RESPONSES, np.zeros(2, bool))
    np.testing.assert_allclose(given.scale, 3.0 / UNIT2)
    known = residual_hyper(Residual(variance=3.0), RESPONSES, np.zeros(2, bool))
    np.testing.assert_allclose(known.scale, 3.0 / UNIT2)
    assert np.all(known.fixed)


def test_shares_without_a_word_divide_one_half():
    shares, left = resolve_shares([RRBLUP(), RRBLUP(share=0.1), RRBLUP()], Residual(), "trait")
    assert shares == pytest.approx([0.5 / 3, 0.1, 0.5 / 3])
    assert left == pytest.approx(1 - 0.1 - 1 / 3)
    assert resolve_shares([], Residual(share=0.4), "trait") == ([], 0.4)


def test_resolve_shares__raises_where_the_residual_does_not_fit():
    thirds = [RRBLUP(share=0.4), RRBLUP(share=0.4)]
    assert resolve_shares(thirds, Residual(share=0.2), "trait")[1] == 0.2
    with pytest.raises(InputError, match=r"at most 1 together.*1\.7 with the residual's 0\.9"):
        resolve_shares(thirds, Residual(share=0.9), "trait")


def test_resolve_shares__raises_where_rounding_is_all_that_is_left():
    with pytest.raises(InputError, match="sum of 1 "):
        resolve_shares([RRBLUP(share=s) for s in (0.7, 0.2, 0.1)], Residual(), "trait")


def test_resolve_shares__raises_where_nothing_is_left():
    with pytest.raises(InputError, match=r"priors of the trait.*1\.1"):
        resolve_shares([RRBLUP(share=0.6), RRBLUP(), RRBLUP(share=0.4)], Residual(), "trait")

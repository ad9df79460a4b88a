import importlib.util
import os
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from jax.experimental.compilation_cache import compilation_cache

from nnmm_jax.errors import InputError

REPO = Path(__file__).parents[1]
SCRIPT = REPO / "scripts" / "parity_bglr.py"
SHARED = Path(os.environ.get("NNMM_SHARED", REPO.parent / "shared"))
DATA, REFERENCE = SHARED / "data" / "wheat_cimmyt599", SHARED / "reference" / "bglr_wheat"
ABSENT = "the wheat data or BGLR's posteriors are not here; NNMM_SHARED names the folder above both"


def load_script():
    spec = importlib.util.spec_from_file_location("parity_bglr", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["parity_bglr"] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


parity = load_script()


@pytest.fixture
def compiled_forgotten():
    """The script keeps compiled programs in a folder that it deletes."""
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def theirs(mean, sd=1.0, mcse=0.01):
    return pd.Series({"mean": mean, "sd": sd, "mcse": mcse})


def made_up(model, settings, lines=None):
    lines = pd.DataFrame({"y": np.zeros(3)}) if lines is None else lines
    return parity.Reference(model, settings, pd.DataFrame(), lines, pd.DataFrame())


def test_equal_means_agree(rng):
    check = parity.compare_scalar("BRR", "varE", rng.normal(3.0, 1.0, (4, 1000)), theirs(3.0))
    assert not check.missed
    assert not check.remark


def test_a_planted_difference_of_means_is_flagged(rng):
    draws = rng.normal(3.0, 1.0, (4, 1000))
    check = parity.compare_scalar("BRR", "varE", draws, theirs(3.0 + 6 * np.hypot(0.016, 0.01)))
    assert check.missed
    assert -7.5 < float(check.cells[-1]) < -4.5
    assert check.miss.startswith("BRR, varE: ours 2.99, sd 1.003, MCSE 0.01578, ")


def test_draws_that_are_not_numbers_are_flagged():
    draws = np.full((2, 100), np.nan)
    assert parity.compare_scalar("BRR", "varE", draws, theirs(3.0)).missed


def test_few_effective_draws_are_said(rng):
    draws = np.repeat(rng.normal(size=(2, 10)), 100, axis=1)
    assert "says little" in parity.compare_scalar("BRR", "mu", draws, theirs(0.0)).remark


def vectors(ours, reference, noise=0.0, **limits):
    ours, reference = parity.Estimate(ours, noise), parity.Estimate(reference, noise)
    return parity.compare_vectors("BRR", "fitted values", ours, reference, 0.9999, **limits)


def test_equal_vectors_agree(rng):
    values = rng.normal(size=500)
    assert not vectors(values, values, slope_limit=0.005).missed


def test_a_planted_difference_of_vectors_is_flagged(rng):
    values = rng.normal(size=500)
    assert vectors(values, values + rng.normal(0, 0.03, 500)).missed
    assert vectors(1.01 * values, values, slope_limit=0.005).missed
    one_off = np.zeros(500)
    one_off[7] = -6.0
    assert vectors(values, values, z=one_off, z_limit=4.5).missed


def test_a_correlation_is_not_expected_above_what_noise_allows(rng):
    values, sd = rng.normal(size=5000), 0.1
    noisy = (values + rng.normal(0, sd, 5000) for _ in range(2))
    check = vectors(*noisy, noise=sd**2)
    correlation, at_most = (float(cell) for cell in check.cells[:2])
    assert check.missed
    assert "sample longer" in check.remark
    assert abs(correlation - at_most) < 0.002
    assert "sample longer" not in vectors(values, values**2).remark


def test_fits_tell_the_error_of_marker_effects(rng):
    truth = rng.normal(size=20_000)
    shared = rng.normal(1.0, 0.1, (4, 1))  # an error of scale lowers no correlation
    fits = shared * truth + rng.normal(0, 0.2, (4, 20_000))
    estimate = parity.Sampled(of_fit={"mean": fits}).estimate("mean")
    assert estimate.noise == pytest.approx(0.2**2 / 4, rel=0.05)
    assert estimate.reliability == pytest.approx(1 / 1.01, rel=0.01)


def test_priors_are_those_of_bglr():
    common = {"varE_df0": 5.0, "varE_S0": 3.5, "df0": 5.0, "S0": 0.02, "MSx": 200.0}
    gamma = {"shape0": 1.1, "rate0": 3.0, "countsIn": 5.0, "countsOut": 7.0}
    network = parity.direct_network(made_up("BayesB", common | gamma))
    # S of BGLR is df times ours: Gamma(1.1, 3) of it is Gamma(1.1, 15) of ours.
    assert (network.skip_prior.df, network.skip_prior.rate) == (5.0, 15.0)
    assert network.skip_prior.pi_counts == (8.0, 6.0)  # zero first
    assert network.residual_trait.scale == pytest.approx(0.7)
    assert parity.prior_of(made_up("BRR", common)).scale == pytest.approx(0.004)
    lasso = parity.prior_of(made_up("BL", {"lambda_shape": 1.1, "lambda_rate": 2e-4}))
    assert (lasso.shape, lasso.rate) == (1.1, 2e-4)


LATENT = {"varE_df0": 5.0, "varE_S0": 3.5, "df0": 5.0, "S0": 0.03, "MSx": 200.0}


def test_latent_priors_have_the_same_means():
    settings = LATENT | {"countsIn": 5.0, "countsOut": 5.0}
    network = parity.latent_network(made_up("BayesC", settings))
    node, effect = network.node_prior.variance, network.marker_prior.variance
    assert node * effect == pytest.approx(0.03 / 3)  # of a marker effect that is not zero
    residual = network.residual_trait
    own = residual.df * residual.scale / (residual.df - 2)
    assert own + node * network.residual_omics.variance == pytest.approx(3.5 / 3)


def test_reference__refuses_other_lines_and_markers():
    ids = pd.Index(["a", "b", "c"], name="id")
    wheat = parity.Wheat(
        pd.DataFrame({"m": [0.0, 0.0, 1.0]}, ids),
        pd.DataFrame({parity.TRAIT: [-1.0, 0.0, 1.0]}, ids),
    )
    lines = pd.DataFrame({"y": [-1.0, 0.0, 1.0]})
    assert wheat.dataset(made_up("BRR", {"MSx": 2 / 9}, lines)).markers.tolist() == ["m"]
    with pytest.raises(InputError, match="not of these markers"):
        wheat.dataset(made_up("BRR", {"MSx": 8 / 9}, lines))
    with pytest.raises(InputError, match="not of yield_env1 of these lines"):
        wheat.dataset(made_up("BRR", {"MSx": 2 / 9}, lines[::-1]))


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--models", "BRR,BayesX"], "'BayesX'"),
        (["--models", "BRR", "--latent", "GBLUP"], "'GBLUP'"),
        (["--samples", "0"], "samples"),
        (["--chains", "0"], "chains"),
        (["--reference", "nowhere"], "nowhere"),
    ],
)
def test_parity__refuses_in_one_line(capsys, words, fragment):
    assert parity.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("parity_bglr: error: ")
    assert fragment in line


@pytest.mark.skipif(not DATA.is_dir() or not REFERENCE.is_dir(), reason=ABSENT)
@pytest.mark.usefixtures("compiled_forgotten")
def test_parity_runs_on_the_real_data(capsys):
    words = f"--data {DATA} --reference {REFERENCE} --models BayesC --latent BayesC"
    assert parity.main([*words.split(), *"--warmup 4 --samples 16 --chains 2".split()]) == 1
    printed = capsys.readouterr()
    for quantity in ("varE", "mu", "varB", "probIn", "marker effects", "inclusion prob"):
        assert quantity in printed.out
    assert "fitted values, direct fit" in printed.out
    assert "2 x 2 x (4 + 8) sweeps" in printed.out
    # So few draws cannot agree to four digits, and every miss is named.
    missed = [line for line in printed.err.splitlines() if "missed: " in line]
    assert missed
    assert len(missed) == printed.out.count("MISSED")
    assert any("fitted values: correlation 0." in line for line in missed)


def test_script_can_be_called():
    assert os.access(REPO / "scripts" / "parity_bglr", os.X_OK)

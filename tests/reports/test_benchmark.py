"""The benchmark: what it compares is the same model, and its script prints and writes."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from nnmm_jax.reports import benchmark, benchmark_gpu
from nnmm_jax.reports.benchmark import Case, compare, effective, growth, random_data, with_ratios
from nnmm_jax.reports.benchmark_baseline import MarkerByMarker, marker_sweep

PATH = Path(__file__).parents[2] / "scripts/benchmark.py"
SMALL = {"individuals": 60, "markers": 40}


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("benchmark_script", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_print_numbers_texts_and_answers(script, capsys):
    row = {"setting": "small", "phase": "sampling", "ratio": 0.961, "within": True, "asked": None}
    script.print_table("title", pd.DataFrame([row, row | {"within": False, "asked": 1.5}]))
    lines = capsys.readouterr().out.split("\n")
    assert lines[1:2] == ["title"]
    assert lines[3].split() == ["small", "sampling", "0.96", "yes", "-"]
    assert lines[4].split() == ["small", "sampling", "0.96", "no", "1.5"]


def test_baseline_sweep_leaves_what_its_effects_do_not_explain():
    baseline = MarkerByMarker(random_data(50, 30, 2))
    start = baseline._residual.copy()
    baseline.settle(3)
    assert 0 < np.count_nonzero(baseline._coef) < baseline._coef.size
    left = start - baseline._coef @ baseline._genotypes
    np.testing.assert_allclose(baseline._residual, left, atol=1e-10)


def test_baseline_draws_an_effect_from_its_conditional():
    """One marker, residual and variances known: probability of zero, mean and sd."""
    rng = np.random.default_rng(1)
    column = rng.normal(size=(1, 20))
    response = 0.4 * column[0] + rng.normal(size=20)
    traits, pi, var_e, var_a = 40_000, 0.6, 1.0, 0.3
    residual, coef = np.tile(response, (traits, 1)), np.zeros((traits, 1))
    squares = np.sum(column**2, axis=1)
    variances = np.full(traits, var_e), np.full(traits, var_a)
    marker_sweep()(column, residual, coef, squares, *variances, pi)
    shrink = 1.0 / (squares[0] + var_e / var_a)
    rhs = column[0] @ response
    factor = np.exp(0.5 * rhs**2 * shrink / var_e) / np.sqrt(1 + squares[0] * var_a / var_e)
    expected = (1 - pi) * factor / (pi + (1 - pi) * factor)
    drawn = coef[coef != 0]
    assert abs(len(drawn) / traits - expected) < 4 * np.sqrt(0.25 / traits)
    sd = np.sqrt(var_e * shrink)
    assert abs(drawn.mean() - rhs * shrink) < 4 * sd / np.sqrt(len(drawn))
    assert abs(drawn.std() / sd - 1) < 4 / np.sqrt(2 * len(drawn))


def test_an_iteration_is_compared():
    found = compare(Case("small", omics=2, **SMALL, asked=1.0), sweeps=2, repeats=2)
    assert found["times_faster"] == pytest.approx(found["baseline_ms"] / found["ours_ms"])
    assert found["times_faster_kept"] == pytest.approx(found["baseline_ms"] / found["kept_ms"])
    assert 0 < found["products_ms"]
    assert found["compiled_s"] > 0


def test_both_samplers_have_the_same_posterior():
    case = Case("RR-BLUP", omics=0, chains=2, prior="RR-BLUP", **SMALL)
    found = effective(case, samples=1500, warmup=300)
    assert abs(found["h2_difference"]) < 0.05
    assert found["ebv_difference"] < 0.01
    assert all(found[f"{who}_{name}_per_s"] > 0 for who in ("ours", "baseline")
               for name in ("h2", "ebv"))  # fmt: skip


def test_growth_doubles_one_size_at_a_time(monkeypatch):
    monkeypatch.setattr(benchmark, "GROWTH", {"omics": 2})
    monkeypatch.setattr(benchmark, "_OTHERS", {**SMALL, "omics": 2})
    table = with_ratios(pd.DataFrame(growth(doublings=1, repeats=1)))
    assert table["value"].tolist() == [2, 4]
    first, second = table["iteration_ms"]
    assert table["times_before"].tolist()[1] == pytest.approx(second / first)


def test_script_prints_and_writes(script, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "CASES", (Case("small", omics=2, **SMALL, asked=1.0),))
    monkeypatch.setattr(benchmark, "PER_DRAW", ())
    out = tmp_path / "out"
    assert script.main(["--repeats", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "small" in printed
    assert list(pd.read_csv(out / "iterations.csv")["case"]) == ["small"]


def test_script_on_a_gpu_names_the_crossing(script, tmp_path, capsys, monkeypatch):
    def fake(case, *, repeats):
        return {"case": case.name, "kernel_ms": 1.0, "cpu_ms": case.omics, "cpu_by_gpu": case.omics}

    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(benchmark_gpu, "compared", fake)
    sizes = tuple(Case(f"{omics} omics", omics=omics) for omics in (0, 5))
    monkeypatch.setattr(benchmark_gpu, "BY_SIZE", sizes)
    out = tmp_path / "out"
    assert script.main(["--gpu", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "the GPU is faster than the CPU from 5 omics on, not yet with 0 omics" in printed
    assert len(pd.read_csv(out / "gpu_by_size.csv")) == 2
    assert len(pd.read_csv(out / "gpu_large.csv")) == len(benchmark_gpu.LARGE)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--scale", "--gpu"], "expected one of --scale"),
        (["--repeats", "0"], "--repeats: expected at least 1, found 0"),
        (["--gpu"], "--gpu: expected a GPU, found"),
    ],
)
def test_script__raises_on_wrong_flags(script, flags, said, capsys):
    assert script.main(flags) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error

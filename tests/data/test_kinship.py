import numpy as np
import pytest

from nnmm_jax.data.kinship import (
    gene_flow,
    generations,
    inbreeding_coefficients,
    mendelian_variance,
    relationship_among,
)


def tabular(sire: np.ndarray, dam: np.ndarray) -> np.ndarray:
    """The whole of A by the tabular rule; the last row and column stand for unknown parents."""
    a = np.zeros((len(sire) + 1, len(sire) + 1))
    for i, (s, d) in enumerate(zip(sire, dam, strict=True)):
        a[i, :i] = a[:i, i] = 0.5 * (a[s, :i] + a[d, :i])
        a[i, i] = 1.0 + 0.5 * a[s, d]
    return a[:-1, :-1]


def random_pedigree(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Parents of 90 animals, the first six founders; later founders where a draw gives -1."""
    rng = np.random.default_rng(seed)
    sire, dam = np.full((2, 90), -1)
    for i in range(6, 90):
        if kind == "discrete generations":
            first = (i // 10 - 1) * 10
            sire[i], dam[i] = (rng.integers(first, first + 10, 2)) if i >= 10 else (-1, -1)
        elif kind == "overlapping, half known":
            sire[i], dam[i] = rng.integers(-1, i, 2)
            sire[i] = sire[i] if rng.random() < 0.8 else -1
        elif kind == "selfing":
            sire[i] = rng.integers(max(0, i - 12), i)
            dam[i] = sire[i] if rng.random() < 0.6 else rng.integers(max(0, i - 12), i)
        elif kind == "few sires":
            sire[i] = rng.integers(0, 3) if i < 40 else rng.integers(30, 33)
            dam[i] = rng.integers(max(0, i - 20), i)
    return sire, dam


KINDS = ["discrete generations", "overlapping, half known", "selfing", "few sires"]


@pytest.mark.parametrize("window_bytes", [10**9, 0], ids=["window", "columns"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_inbreeding_is_that_of_the_tabular_rule(kind: str, seed: int, window_bytes: int) -> None:
    sire, dam = random_pedigree(kind, seed)
    found = inbreeding_coefficients(sire, dam, window_bytes=window_bytes)
    expected = np.diagonal(tabular(sire, dam)) - 1.0
    assert expected.max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_block_of_relationships_is_that_of_the_whole_matrix(
    kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seven columns at a time, so that chunks meet.
    monkeypatch.setattr("nnmm_jax.data.kinship.COLUMN_BYTES", 7 * 8 * 90)
    sire, dam = random_pedigree(kind, seed)
    whole = tabular(sire, dam)
    mendelian = mendelian_variance(sire, dam, np.diagonal(whole) - 1.0)
    rows = np.random.default_rng(seed).permutation(90)[:40]
    found = relationship_among(sire, dam, mendelian, rows)
    np.testing.assert_allclose(found, whole[np.ix_(rows, rows)], rtol=0, atol=1e-14)
    assert relationship_among(sire, dam, mendelian, rows[:0]).shape == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_factors_make_up_the_relationship_matrix(kind: str) -> None:
    sire, dam = random_pedigree(kind, 1)
    whole = tabular(sire, dam)
    trace = np.linalg.inv(np.eye(90) - gene_flow(sire, dam).toarray())
    mendelian = mendelian_variance(sire, dam, np.diagonal(whole) - 1.0)
    np.testing.assert_allclose((trace * mendelian) @ trace.T, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_generations_put_parents_below_offspring_and_hold_everybody_once(kind: str) -> None:
    sire, dam = random_pedigree(kind, 2)
    levels = generations(sire, dam)
    assert np.sort(np.concatenate(levels)).tolist() == list(range(90))
    level = np.empty(91)
    level[-1] = -1
    for number, members in enumerate(levels):
        level[members] = number
    assert (level[:-1] > np.maximum(level[sire], level[dam]))[(sire >= 0) | (dam >= 0)].all()


def test_a_line_of_selfing_halves_what_is_left_of_heterozygosity() -> None:
    parent = np.arange(-1, 9)
    inbreeding = inbreeding_coefficients(parent, parent)
    np.testing.assert_array_equal(inbreeding, 1.0 - 0.5 ** np.arange(10))
    np.testing.assert_array_equal(
        mendelian_variance(parent, parent, inbreeding)[1:], 0.5 ** np.arange(1, 10)
    )

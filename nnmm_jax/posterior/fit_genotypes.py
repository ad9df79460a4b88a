"""The genotypes of a fit, which its result does not hold, read again and checked to be the same."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnmm_jax.data.align import Dataset
from nnmm_jax.data.dosages import Dosages
from nnmm_jax.data.genotype_files import GenotypeSource
from nnmm_jax.data.imputation import draw_missing
from nnmm_jax.data.tables import label
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.inference.build_arrays import decoded, marker_means
from nnmm_jax.posterior.new_data import read_fit_markers
from nnmm_jax.posterior.result import FitResult

_TOLERANCE = 1e-5  # of mean dosages, which may have been rounded to single precision


@dataclass(frozen=True, eq=False)
class FitGenotypes:
    """Dosages of the individuals and markers of a fit, in its orders.

    Attributes
    ----------
    codes : (individual, marker)
        int8 with -1 for missing when they are counts, else float32 with NaN for missing.
    means : (marker,)
        Mean dosages over the individuals.
    places : pandas.DataFrame or None
        Chromosome and position of the markers, where the format has them.
    """

    codes: np.ndarray
    means: np.ndarray
    places: pd.DataFrame | None = None

    def centred(self, markers: np.ndarray | slice) -> np.ndarray:
        """Dosages (individual, marker) of some markers, centred, missing ones 0."""
        return decoded(self.codes[:, markers], self.means[markers])


def read_fit_genotypes(
    result: FitResult,
    genotypes: GenotypeSource | Dataset | None = None,
    *,
    id_column: str | None = None,
) -> FitGenotypes:
    """Read the genotypes that a fit was made with, and check that they are these.

    Parameters
    ----------
    result : FitResult
        A fit with markers.
    genotypes
        In any format of :func:`nnmm_jax.data.read_dosages`, or the data set of the fit. ``None``:
        the file that ``nnmm fit`` read, whose name is in ``result.run``.
    id_column
        Name of the id column of a table; default that of the fit, or the first.

    Returns
    -------
    FitGenotypes

    Raises
    ------
    InputError
        The fit has no markers; nothing says which file to read, or it cannot be read; markers or
        individuals of the fit lack; mean dosages are not those of the fit.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> result = nm.load("results")  # doctest: +SKIP
    >>> read_fit_genotypes(result, "genotypes.csv").codes.shape  # doctest: +SKIP
    (800, 1200)
    """
    if "marker_dosage" not in result.constant_data or not result.constant_data.sizes["marker"]:
        raise InputError("the fit has no markers; fit with genotypes")
    source: GenotypeSource
    if genotypes is None:
        source, id_column = _recorded(result, id_column)
    elif isinstance(genotypes, Dataset):
        source = Dosages(genotypes.genotypes, tuple(genotypes.ids), tuple(genotypes.markers))
    else:
        source = genotypes
    name = label("genotypes", source)
    found = read_fit_markers(result, source, id_column=id_column)
    ids = result.posterior["individual"].values.astype(str)
    rows = pd.Index(found.ids, dtype=object).get_indexer(ids)
    if (rows < 0).any():
        raise InputError(
            f"{name}: expected all {len(ids)} individuals of the fit, found none of "
            f"{shortlist(ids[rows < 0])}; give the genotypes that the fit was made with"
        )
    codes = found.codes
    if not np.array_equal(rows, np.arange(len(codes))):
        codes = codes[rows]
    seed = result.run.get("data", {}).get("genotypes_drawn_seed")
    if seed is not None:  # the fit's own draws, in the same places
        codes = np.array(codes)
        draw_missing(codes, seed)
    _check_same(codes, result, name)
    return FitGenotypes(codes, result.constant_data["marker_dosage"].values, found.places)


def _recorded(result: FitResult, id_column: str | None) -> tuple[Path, str | None]:
    """Path of the genotypes that a fit from the command line read, and its id column."""
    files = result.run.get("files", {})
    if not files.get("genotypes"):
        raise InputError(
            "the result does not say where its genotypes are; give the genotypes that the fit was "
            "made with"
        )
    path = Path(files.get("folder", "."), files["genotypes"])
    return path, files.get("id_column") if id_column is None else id_column


def _check_same(codes: np.ndarray, result: FitResult, name: str) -> None:
    """Raise unless mean dosages are those of the fit."""
    expected, found = result.constant_data["marker_dosage"].values, marker_means(codes)
    differ = ~np.isclose(found, expected, rtol=0.0, atol=_TOLERANCE)
    if not differ.any():
        return
    worst = int(np.argmax(differ))
    advice = "give the genotypes that the fit was made with"
    if np.allclose(found[differ], 2.0 - expected[differ], rtol=0.0, atol=_TOLERANCE):
        advice = "they count the other allele; " + advice
    raise InputError(
        f"{name}: expected the mean dosages of the fit, found others for {int(differ.sum())} of "
        f"{len(expected)} markers, such as {found[worst]:.4g} instead of {expected[worst]:.4g} for "
        f"'{result.constant_data['marker'].values[worst]}'; {advice}"
    )

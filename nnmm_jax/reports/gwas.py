"""Association of a fit: markers, windows, credible sets, paths to the trait; tables and figures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnmm_jax.data.align import Dataset
from nnmm_jax.data.genotype_files import GenotypeSource
from nnmm_jax.data.maps import MapSource
from nnmm_jax.errors import InputError
from nnmm_jax.folders import new_folder
from nnmm_jax.posterior.fit_genotypes import read_fit_genotypes
from nnmm_jax.posterior.marker_draws import marker_draws
from nnmm_jax.posterior.predict import check_predictable
from nnmm_jax.posterior.result import FitResult
from nnmm_jax.reports.association import marker_table, may_be_zero
from nnmm_jax.reports.credible_sets import credible_sets
from nnmm_jax.reports.paths import mediation_table, path_table
from nnmm_jax.reports.windows import make_windows, marker_places, parse_window
from nnmm_jax.reports.wppa import window_table

WINDOW = "10 markers"
FDR = 0.05
TABLES = ("markers", "windows", "credible_sets", "paths", "mediation")


@dataclass(frozen=True, eq=False)
class Gwas:
    """Tables of association, with a row for each pair of a response and a marker or window.

    Attributes
    ----------
    markers : pandas.DataFrame
        See :func:`nnmm_jax.reports.association.marker_table`.
    windows : pandas.DataFrame
        See :func:`nnmm_jax.reports.wppa.window_table`.
    credible_sets : pandas.DataFrame
        See :func:`nnmm_jax.reports.credible_sets.credible_sets`.
    paths : pandas.DataFrame
        See :func:`nnmm_jax.reports.paths.path_table`.
    mediation : pandas.DataFrame
        See :func:`nnmm_jax.reports.paths.mediation_table`.
    trait : str
    window : str
        How windows were cut.
    share : float
        Of the genetic variance that a window is to exceed.
    fdr : float
        At which hits are named.
    draws : int
        Draws that all but the marker table rest on.
    """

    markers: pd.DataFrame
    windows: pd.DataFrame
    credible_sets: pd.DataFrame
    paths: pd.DataFrame
    mediation: pd.DataFrame
    trait: str
    window: str
    share: float
    fdr: float
    draws: int

    def hits(self) -> pd.DataFrame:
        """Windows at the rate of false discoveries, the most probable of each response first."""
        found = self.windows[self.windows["q_value"] <= self.fdr]
        responses = {name: i for i, name in enumerate(dict.fromkeys(self.windows["response"]))}
        order = found.assign(at=found["response"].map(responses)).sort_values(
            ["at", "wppa", "variance_share"], ascending=[True, False, False]
        )
        return order.drop(columns="at").reset_index(drop=True)

    def figures(self) -> dict[str, Any]:
        """Figures of matplotlib by name; see :mod:`nnmm_jax.reports.gwas_plots`."""
        from nnmm_jax.reports.gwas_plots import marker_manhattan, window_manhattan

        return {
            "manhattan_markers": marker_manhattan(self),
            "manhattan_windows": window_manhattan(self),
        }

    def write(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the tables as csv and the figures as png.

        Parameters
        ----------
        folder : str or Path
            Made, with its parents.
        overwrite : bool
            Whether an earlier association there may be replaced; files of other names stay.

        Raises
        ------
        InputError
            If the folder exists and ``overwrite`` is false, or it cannot be written.
        """
        figures = self.figures()
        owned = {*(f"{name}.csv" for name in TABLES), *(f"{name}.png" for name in figures)}
        with new_folder(folder, owned=owned.__contains__, overwrite=overwrite) as temporary:
            for name in TABLES:
                table = getattr(self, name)
                table.to_csv(temporary / f"{name}.csv", index=False, float_format="%.7g")
            for name, figure in figures.items():
                figure.savefig(temporary / f"{name}.png", dpi=150)


def gwas(
    result: FitResult,
    genotypes: GenotypeSource | Dataset | None = None,
    marker_map: MapSource | None = None,
    *,
    window: str = WINDOW,
    share: float | None = None,
    fdr: float = FDR,
    activation: Callable[..., Any] | None = None,
    id_column: str | None = None,
) -> Gwas:
    """Associate markers and windows of markers with nodes and trait.

    Parameters
    ----------
    result : FitResult
        A fit with marker effects.
    genotypes
        Those of the fit: its data set, or a file or table; ``None`` for the file that ``nnmm fit``
        read.
    marker_map
        marker, chromosome, position; or PLINK's bim. ``None``: the places in the genotypes.
    window : str
        ``"10 markers"``; ``"500 kb"``, ``"1 Mb"`` (the map being in base pairs), ``"2 cM"``,
        ``"2 units"`` of the map; ``"LD"`` or ``"LD 0.5"``: neighbours with at least this r².
    share : float, optional
        Of the genetic variance that a window is to exceed; default 1 / (number of windows).
    fdr : float
        Expected share of false discoveries among the hits of a response.
    activation : callable, optional
        The function of the fit, if it was fitted with a user's function.
    id_column : str, optional
        Of a table of genotypes.

    Returns
    -------
    Gwas

    Raises
    ------
    InputError
        The fit has no marker effects or kept none; genotypes or map cannot be used, or are others;
        the window, the share or the rate are not possible.

    Examples
    --------
    >>> import nnmm_jax as nm
    >>> result = nm.load("results")  # doctest: +SKIP
    >>> found = gwas(result, marker_map="data/map.csv", window="5 cM")  # doctest: +SKIP
    >>> found.hits().head()  # doctest: +SKIP
    """
    rule = parse_window(window)
    for name, value in (("share", share), ("fdr", fdr)):
        if value is not None and not 0 < value < 1:
            raise InputError(f"{name}: expected a number between 0 and 1, found {value!r}")
    check_predictable(result)
    found = read_fit_genotypes(result, genotypes, id_column=id_column)
    places = marker_places(result, found, marker_map)
    windows = make_windows(rule, places, found)
    draws = marker_draws(result, found, activation=activation)
    spiked = may_be_zero(result, draws)
    limit = 1.0 / len(windows) if share is None else share
    markers = marker_table(result, draws, places, spiked)
    return Gwas(
        markers=markers,
        windows=window_table(draws, found, windows, places, markers, share=limit),
        credible_sets=credible_sets(draws, found, windows, places, spiked),
        paths=path_table(draws, places, spiked),
        mediation=mediation_table(draws, places),
        trait=draws.trait,
        window=rule.text,
        share=limit,
        fdr=fdr,
        draws=len(draws.chain),
    )

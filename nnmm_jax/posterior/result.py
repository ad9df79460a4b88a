"""The result of a fit: posterior draws with named dimensions, and how they came about."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5netcdf
import numpy as np
import pandas as pd
import xarray as xr

from nnmm_jax.errors import InputError
from nnmm_jax.folders import replacing
from nnmm_jax.posterior import diagnostics as checks
from nnmm_jax.posterior import elpd
from nnmm_jax.posterior.arviz_compat import as_arviz
from nnmm_jax.posterior.elpd import Elpd
from nnmm_jax.posterior.stream_reading import GROUPS as _DRAWS
from nnmm_jax.posterior.stream_reading import read_stream

if TYPE_CHECKING:
    from nnmm_jax.data.align import Dataset
    from nnmm_jax.data.genotype_files import GenotypeSource
    from nnmm_jax.data.maps import MapSource
    from nnmm_jax.reports.gwas import Gwas

_REQUIRED = ("posterior", "sample_stats", "moments", "constant_data", "parameters")
GROUPS = (*_REQUIRED, "log_likelihood")
POSTERIOR_FILE = "posterior.nc"
RUN_FILE = "run.json"
DRAWS_AT = "draws_at"  # of ``run``: where draws are that are not in the file of the others
VARIATIONAL = "variational"  # of ``run``: what an approximate fit says of itself
_FORMAT = 2  # raised when an older version of the package could misread the files


@dataclass(frozen=True, eq=False)
class FitResult:
    """Everything that a fit leaves: draws, moments, data it was conditioned on, provenance.

    All values are in the user's units; ``node`` runs over the omics columns and then
    ``latent1``, ``latent2``, ... Without a middle layer nothing has the dimension ``node``.

    Attributes
    ----------
    posterior : xarray.Dataset
        Draws, dimensions ``(chain, draw, ...)``. Node effects ``node_effect`` and
        ``node_included`` (node, trait); breeding values ``ebv_mediated``, ``ebv_direct``,
        ``ebv_polygenic``, ``epv`` and predictions ``y_mean``, ``y_pred`` (individual, trait);
        variances, heritabilities, what governs effects (pi is the probability of a ZERO effect)
        fixed effects, parameters ``theta_NAME`` of a user's function. Where the middle layer has
        named blocks, what governs marker effects, fixed effects and random terms of nodes end in
        the block's name, and so do the dimensions ``node_BLOCK`` and ``term_omics_BLOCK``. Parts
        that the model does not have are absent.
    sample_stats : xarray.Dataset
        ``(chain, draw)``: ``non_finite`` counts; with HMC ``accept_prob`` and ``diverging``; with
        groups or large pedigrees ``cg_iterations`` and ``cg_failed``, the responses whose
        conjugate-gradient solve did not converge; after ``method="svi"`` ``log_ratio``, the log of
        the joint density over that of the approximation.
    moments : xarray.Dataset
        Posterior mean and sd, without draws, of what is too large to keep: marker effects
        ``marker_mean``, ``marker_sd``, ``marker_pip`` (node, marker), skip effects, and the middle
        layer ``omics_mean``, ``omics_sd`` (individual, node); each node's own breeding value
        ``node_ebv_mean``, ``node_ebv_sd`` and what it gives to the trait's ``mediated_node_mean``,
        ``mediated_node_sd`` (individual, node), by block ``mediated_block_mean``,
        ``mediated_block_sd`` (individual, block).
    constant_data : xarray.Dataset
        ``omics_observed`` (individual, node), ``phenotype`` (individual, trait; the mean of an
        individual's records, NaN is missing), ``residual_share`` (individual; the variance of
        that mean's residual relative to the residual variance), ``latent`` (node).
    parameters : xarray.Dataset
        Whole parameter sets ``(sample, ...)`` of some of the draws, for predictions:
        ``marker_effect`` (node, marker), ``node_base`` (node), ``node_effect`` (node),
        ``skip_effect`` (marker), ``trait_base``, residual variances, theta, and the means by which
        breeding values are centred. Latent nodes are as the sampler had them, not aligned. Without
        variables where there are too many marker effects to keep.
    run : dict
        JSON-serialisable: settings, versions, seed, data summary, seconds.
    log_likelihood : xarray.Dataset
        ``phenotype`` (chain, draw, individual), phenotyped individuals only: log density of the
        records of each, see :func:`nnmm_jax.inference.pointwise.log_likelihood`; the attribute
        ``given_sampled_nodes`` is the number of individuals whose missing nodes were not integrated
        out. Empty where results are of a version that did not keep it.

    Examples
    --------
    >>> import nnmm_jax
    >>> result = nnmm_jax.load("results")  # doctest: +SKIP
    >>> result.breeding_values().nlargest(10, "ebv")  # doctest: +SKIP
    """

    posterior: xr.Dataset
    sample_stats: xr.Dataset
    moments: xr.Dataset
    constant_data: xr.Dataset
    parameters: xr.Dataset
    run: dict[str, Any]
    log_likelihood: xr.Dataset = field(default_factory=xr.Dataset)

    @property
    def groups(self) -> dict[str, xr.Dataset]:
        """The datasets by group name; without the log likelihood where there is none."""
        found = {name: getattr(self, name) for name in GROUPS}
        return {name: one for name, one in found.items() if name in _REQUIRED or one.data_vars}

    @property
    def idata(self) -> Any:
        """ArviZ's container: ``InferenceData`` with arviz 0.x, ``DataTree`` with arviz 1.x."""
        return as_arviz(self.groups)

    @property
    def latent(self) -> xr.DataArray:
        """Which nodes are latent, booleans over ``node``."""
        return self.constant_data["latent"].astype(bool)

    def breeding_values(self) -> pd.DataFrame:
        """EBV, EPV and predictions; see :func:`nnmm_jax.reports.tables.breeding_values`."""
        return _tables().breeding_values(self)

    def ranking(self, top: float = 0.1, *, highest: bool = True) -> pd.DataFrame:
        """Ranks with their certainty; see :func:`nnmm_jax.reports.ranking.ranking`."""
        from nnmm_jax.reports.ranking import ranking

        return ranking(self, top, highest=highest)

    def variance_components(self) -> pd.DataFrame:
        """Variances and shares; see :func:`nnmm_jax.reports.tables.variance_components`."""
        return _tables().variance_components(self)

    def node_effects(self) -> pd.DataFrame:
        """Effects of nodes on the trait; see :func:`nnmm_jax.reports.tables.node_effects`."""
        return _tables().node_effects(self)

    def node_values(self) -> pd.DataFrame:
        """Breeding values by node; see :func:`nnmm_jax.reports.tables.node_values`."""
        return _tables().node_values(self)

    def block_values(self) -> pd.DataFrame:
        """Breeding values by block; see :func:`nnmm_jax.reports.tables.block_values`."""
        return _tables().block_values(self)

    def marker_effects(self) -> pd.DataFrame:
        """Effects of markers on nodes; see :func:`nnmm_jax.reports.tables.marker_effects`."""
        return _tables().marker_effects(self)

    def omics_imputed(self) -> pd.DataFrame:
        """Missing omics cells; see :func:`nnmm_jax.reports.tables.omics_imputed`."""
        return _tables().omics_imputed(self)

    def summary(self) -> pd.DataFrame:
        """Trait-level scalars with R-hat; see :func:`nnmm_jax.reports.tables.summary`."""
        return _tables().summary(self)

    def predict(
        self,
        genotypes: str | Path | pd.DataFrame,
        omics: str | Path | pd.DataFrame | None = None,
        *,
        activation: Callable[..., Any] | None = None,
        id_column: str | None = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """EBV, EPV and predictions of new individuals; see :mod:`nnmm_jax.posterior.predict`."""
        # It compiles with JAX, which results alone do not need.
        from nnmm_jax.posterior.predict import predict

        return predict(
            self, genotypes, omics, activation=activation, id_column=id_column, seed=seed
        )

    def gwas(
        self,
        genotypes: "GenotypeSource | Dataset | None" = None,
        marker_map: "MapSource | None" = None,
        **options: Any,
    ) -> "Gwas":
        """Associate markers with nodes and trait; see :func:`nnmm_jax.reports.gwas.gwas`."""
        from nnmm_jax.reports.gwas import gwas

        return gwas(self, genotypes, marker_map, **options)

    def diagnostics(self) -> pd.DataFrame:
        """R-hat and ESS of what the data identify.

        Returns
        -------
        pandas.DataFrame
            Columns quantity, r_hat, ess_bulk, ess_tail; see
            :func:`nnmm_jax.posterior.diagnostics.diagnostics`. Breeding values are judged for at
            most 500 individuals, evenly spaced. After ``method="svi"`` without rows: draws are
            independent, and how near they are to the posterior is not theirs to say.
        """
        return self._diagnostics.copy()

    def unidentified(self) -> list[str]:
        """Names of what the data do not identify, and so is not judged.

        Returns
        -------
        list of str
            See :func:`nnmm_jax.posterior.diagnostics.unidentified`.
        """
        return checks.unidentified(self.posterior, self.latent)

    @cached_property
    def _diagnostics(self) -> pd.DataFrame:
        if self.approximate:
            return checks.no_diagnostics()
        return checks.diagnostics(self.posterior, self.latent)

    @property
    def convergence_warning(self) -> str | None:
        """One line on what is wrong with the run, ``None`` when nothing is."""
        if self.approximate:
            return checks.variational_warning(self.run[VARIATIONAL], self.sample_stats)
        return checks.convergence_warning(self._diagnostics, self.sample_stats)

    @property
    def approximate(self) -> bool:
        """Whether the draws are of a variational approximation, not of the posterior."""
        return VARIATIONAL in self.run

    def loo(self) -> Elpd:
        """Leave-one-out predictive density; see :func:`nnmm_jax.posterior.elpd.loo`."""
        return elpd.loo(self.log_likelihood)

    def waic(self) -> Elpd:
        """WAIC, on the same scale; see :func:`nnmm_jax.posterior.elpd.waic`."""
        return elpd.waic(self.log_likelihood)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write ``posterior.nc`` (opens with ArviZ) and ``run.json`` into a folder.

        Draws of a lazy result stay where they are.

        Each file is complete or absent: it is written under another name first.

        Parameters
        ----------
        folder : str or Path
            Created where needed.
        overwrite : bool
            Whether results that are already there may be replaced.

        Raises
        ------
        InputError
            If the folder holds results already and ``overwrite`` is false.
        """
        folder = Path(folder)
        targets = (folder / POSTERIOR_FILE, folder / RUN_FILE)
        for target in targets:
            if target.exists() and not overwrite:
                raise InputError(
                    f"{target} exists already: choose another folder or allow overwriting"
                )
        text = json.dumps({"format": _FORMAT, **_plain(self.run)}, indent=2, allow_nan=False)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(targets[0]) as temporary:
            stays = _DRAWS if DRAWS_AT in self.run else ()
            groups = {name: one for name, one in self.groups.items() if name not in stays}
            _write_groups(groups, temporary)
        with replacing(targets[1]) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def load(folder: str | Path) -> FitResult:
    """Read what :meth:`FitResult.save` wrote.

    Parameters
    ----------
    folder : str or Path
        Result folder, with ``posterior.nc`` and ``run.json``.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If a file is missing, cannot be read, or was written by a newer version of the package.
    """
    folder = Path(folder)
    for name in (RUN_FILE, POSTERIOR_FILE):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name} there, so this is not a folder of results")
    try:
        run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        written = run.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{folder / RUN_FILE}: not the record of a fit ({error!r})") from error
    if written != _FORMAT:
        raise InputError(
            f"{folder / RUN_FILE}: result format {written}, but this version reads {_FORMAT}"
        )
    try:
        stay = _DRAWS if DRAWS_AT in run else ()
        stored = _stored_groups(folder / POSTERIOR_FILE)
        groups = {
            name: _read_group(folder / POSTERIOR_FILE, name)
            for name in GROUPS
            if name not in stay and (name in _REQUIRED or name in stored)
        }
    except OSError as error:
        raise InputError(f"{folder / POSTERIOR_FILE}: cannot be read ({error})") from error
    if stay:
        groups |= read_stream(folder / run[DRAWS_AT])
    return FitResult(**groups, run=run)


def _tables() -> Any:
    # The reports build on results, so this convenience must look down the chain only when called.
    from nnmm_jax.reports import tables

    return tables


def _write_groups(groups: Mapping[str, xr.Dataset], path: Path) -> None:
    for i, (name, dataset) in enumerate(groups.items()):
        dataset.to_netcdf(
            path,
            mode="w" if i == 0 else "a",
            group=name,
            engine="h5netcdf",
            encoding={
                key: {"zlib": True, "complevel": 1, "shuffle": True}
                for key, variable in dataset.data_vars.items()
                if _compresses(variable)
            },
        )


def _compresses(variable: xr.DataArray, sample: int = 1 << 16) -> bool:
    """Whether compression pays: posterior floats are mostly noise, indicators and zeros are not."""
    if variable.nbytes < sample:
        return False
    values = np.ravel(variable.values)[: sample // variable.dtype.itemsize]
    return len(zlib.compress(values.tobytes(), 1)) < 0.7 * values.nbytes


def _stored_groups(path: Path) -> set[str]:
    with h5netcdf.File(path, "r") as stored:
        return set(stored.groups)


def _read_group(path: Path, name: str) -> xr.Dataset:
    with xr.open_dataset(path, group=name, engine="h5netcdf") as stored:
        dataset = stored.load()
    # netCDF has no fixed-width strings: names come back as objects.
    names = {
        key: coordinate.astype(str)
        for key, coordinate in dataset.coords.items()
        if coordinate.dtype.kind in "OT"
    }
    return dataset.assign_coords(names)


def _plain(value: Any) -> Any:
    """Turn a value into what JSON knows; a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value

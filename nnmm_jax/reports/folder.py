"""The folder of results that ``nnmm fit`` leaves: posterior, tables, figures."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from nnmm_jax.errors import InputError
from nnmm_jax.folders import check_new_folder, new_folder
from nnmm_jax.inference.checkpoint import CHECKPOINT_FOLDER, SETTINGS_FILE
from nnmm_jax.posterior.result import POSTERIOR_FILE, RUN_FILE, FitResult

FIGURES_FOLDER = "figures"
GWAS_FOLDER = "gwas"  # of the results that are replaced, so stale
TABLES: Mapping[str, Callable[[FitResult], pd.DataFrame]] = MappingProxyType(
    {
        f"{name}.csv": getattr(FitResult, name)
        for name in (
            "breeding_values",
            "ranking",
            "variance_components",
            "node_effects",
            "node_values",
            "block_values",
            "marker_effects",
            "omics_imputed",
            "diagnostics",
        )
    }
)
_OWNED = frozenset({POSTERIOR_FILE, RUN_FILE, FIGURES_FOLDER, GWAS_FOLDER, *TABLES})


def check_results_folder(folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that :func:`write_results` would refuse; writes nothing.

    Parameters
    ----------
    folder : str or Path
        Where results are to go.
    overwrite : bool
        Whether earlier results there may be replaced.

    Raises
    ------
    InputError
        If the folder exists and ``overwrite`` is false, if it holds something else than results,
        or if it cannot be written.
    """
    folder = Path(folder)
    unfinished = (folder / CHECKPOINT_FOLDER / SETTINGS_FILE).is_file()
    if unfinished and not overwrite:
        raise InputError(
            f"{folder} holds a run: go on with it (nnmm fit --resume {folder}), choose another "
            "folder, or overwrite it explicitly"
        )
    check_new_folder(folder, overwrite=overwrite)
    known = unfinished or (folder / RUN_FILE).is_file()
    if folder.is_dir() and any(folder.iterdir()) and not known:
        raise InputError(
            f"{folder} has no {RUN_FILE}, so it does not hold results of an earlier fit and is "
            "not overwritten: choose another folder"
        )
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise InputError(f"{folder}: cannot write to {nearest}, choose another folder")


def write_results(result: FitResult, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write ``posterior.nc``, ``run.json``, the csv tables and ``figures/*.png``.

    Posterior and tables appear together, the figures right after them: if drawing fails, the fit
    is not lost.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.
    folder : str or Path
        Made, with its parents.
    overwrite : bool
        Whether earlier results there may be replaced; files of other names stay.

    Raises
    ------
    InputError
        As :func:`check_results_folder`.

    Examples
    --------
    >>> from nnmm_jax.reports.folder import write_results
    >>> write_results(result, "results")  # doctest: +SKIP
    """
    # Here, because matplotlib takes a second that a refused command should not cost.
    from nnmm_jax.reports.plots import save_figures

    check_results_folder(folder, overwrite=overwrite)
    with new_folder(folder, owned=_OWNED.__contains__, overwrite=overwrite) as temporary:
        result.save(temporary)
        _write_csv(result, temporary)
    with new_folder(folder, owned=FIGURES_FOLDER.__eq__, overwrite=True) as temporary:
        save_figures(result, temporary / FIGURES_FOLDER)


def write_tables(result: FitResult, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write the csv tables of a result alone.

    Parameters
    ----------
    result : FitResult
        A fit of one trait.
    folder : str or Path
        Made, with its parents.
    overwrite : bool
        Whether tables there may be replaced; files of other names stay.

    Raises
    ------
    InputError
        If the folder exists and ``overwrite`` is false, or it cannot be written.
    """
    with new_folder(folder, owned=TABLES.__contains__, overwrite=overwrite) as temporary:
        _write_csv(result, temporary)


def _write_csv(result: FitResult, folder: Path) -> None:
    for name, table in TABLES.items():
        table(result).to_csv(folder / name, index=False, float_format="%.7g")

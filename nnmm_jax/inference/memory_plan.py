"""How much memory a fit will take, before it takes any: by phase and by what takes it.

Shapes come from the functions that make the arrays, and the working memory of a sweep from XLA,
which plans it when it compiles: the program of the run is compiled here, and the run then finds it
compiled. What Python and its libraries hold is measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
import pandas as pd

from nnmm_jax import machine_memory
from nnmm_jax.data.align import Dataset
from nnmm_jax.errors import InputError
from nnmm_jax.inference.arrays import LayerArrays, ModelData
from nnmm_jax.inference.build_arrays import decoding_bytes, spectrum_bytes
from nnmm_jax.inference.build_shapes import bytes_of, shapes
from nnmm_jax.inference.draws import draws_in_chunk
from nnmm_jax.inference.kept_snapshots import check_sites, snapshot_shapes, snapshots_kept
from nnmm_jax.inference.prepare import Prepared
from nnmm_jax.inference.run import Program, compiled_program, pieces_of
from nnmm_jax.inference.run_settings import RunSettings

GIB = 2**30
LATER = 100 * 2**20  # measured: small programs compiled later on, and what allocation loses

BASE = "Python, libraries, compiled program"
TABLES = "genotypes and tables"
ARRAYS = "genotypes laid out, cross-products, eigenvectors"
SET_UP = "eigenproblem and decoding"
CHAINS = "chains and a sweep's working memory"
DRAWS = "draws"
SETS = "parameter sets for predictions"
RESULT = "result in units"

_REMEDY = {
    BASE: "use a machine with more memory",
    TABLES: "use fewer markers or individuals",
    ARRAYS: "use fewer markers or individuals",
    SET_UP: "use fewer individuals or markers, or a prior whose effects are swept, such as BayesC",
    CHAINS: "use fewer chains",
    DRAWS: "use fewer samples or chains",
    SETS: "use fewer samples or chains",
    RESULT: "use fewer samples or chains",
}


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of a fit, predicted.

    Attributes
    ----------
    phases : mapping of str to mapping of str to int
        Bytes of every part in every phase: ``compilation``, ``set-up``, ``sampling`` and
        ``result``.
    available : int or None
        Bytes that the process may have in all, what it holds already included; ``None`` where the
        system does not say.

    Examples
    --------
    >>> from nnmm_jax.inference.memory_plan import MemoryPlan
    >>> plan = MemoryPlan({"sampling": {"draws": 3 * 2**30, "tables": 2**30}}, 8 * 2**30)
    >>> plan.peak == 4 * 2**30
    True
    >>> print(plan.lines()[0])
    memory: 4.00 GB at most, in the sampling; the largest parts draws 3.00, tables 1.00 GB
    """

    phases: Mapping[str, Mapping[str, int]]
    available: int | None

    @property
    def peak(self) -> int:
        """Bytes of the phase that needs most."""
        return sum(self.phases[self.phase].values())

    @property
    def phase(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of the parts of that phase, the largest first."""
        return dict(sorted(self.phases[self.phase].items(), key=lambda part: -part[1]))

    def table(self) -> pd.DataFrame:
        """Gigabytes (2**30 bytes) of all parts: a row for each, a column for each phase."""
        table = pd.DataFrame(self.phases).fillna(0) / GIB
        table.loc["all"] = table.sum()
        return table

    def lines(self) -> list[str]:
        """One or two lines: the peak, its largest parts, what the machine has."""
        named = [f"{name} {size / GIB:.2f}" for name, size in list(self.parts.items())[:3]]
        lines = [
            f"memory: {self.peak / GIB:.2f} GB at most, in the {self.phase}; the largest parts "
            f"{', '.join(named)} GB"
        ]
        if self.available is not None:
            lines.append(f"memory that this process may have: {self.available / GIB:.2f} GB")
        return lines

    def check(self) -> None:
        """Refuse what does not fit.

        Raises
        ------
        InputError
            If the peak is above what is available; nothing is refused where that is not known.
        """
        if self.available is None or self.peak <= self.available:
            return
        name, size = next(part for part in self.parts.items() if part[0] != BASE)
        raise InputError(
            f"memory: expected a fit of at most {self.available / GIB:.2f} GB, which is what this "
            f"process may have, found one of {self.peak / GIB:.2f} GB in the {self.phase}, the "
            f"largest part {name} ({size / GIB:.2f} GB); {_REMEDY[name]}"
        )

    def __str__(self) -> str:
        """The table and the lines."""
        table = self.table().to_string(float_format=lambda value: f"{value:.3f}")
        return "\n".join([f"{table}  (GB)", *self.lines()])


def plan_memory(
    dataset: Dataset,
    prepared: Prepared,
    settings: RunSettings,
    *,
    on_disk: bool = False,
    lazy: bool = False,
) -> MemoryPlan:
    """Predict the memory of a fit.

    Parameters
    ----------
    dataset : Dataset
    prepared : Prepared
        Shapes alone, see :class:`~nnmm_jax.inference.build_shapes.ShapeBuilder`.
    settings : RunSettings
    on_disk : bool
        Whether draws go to disk piece by piece.
    lazy : bool
        Whether they stay there in the result.

    Returns
    -------
    MemoryPlan
        On a CPU; a run that goes on until its ESS is large enough is taken to be as long as it may
        become.
    """
    data = shapes(prepared.data)
    check_sites(settings.keep, data)
    tables = _arrays_of(dataset)
    program = compiled_program(data, prepared.activation, settings)
    compiling = machine_memory.resident()
    machine_memory.release()
    now = machine_memory.resident()
    held = sum(_held(one) for one in tables)

    size = pieces_of(settings)
    every = _draw_bytes(program)
    sites = _site_bytes(settings, data)
    kept = every * settings.kept
    pending = kept if not on_disk else _pending_bytes(program, sites, size)
    sets = snapshots_kept(data, settings.chains, -(-settings.limit // size))
    one_set = bytes_of(snapshot_shapes(program.state, data, settings.chains))
    sets *= one_set
    results = _result_bytes(program, dataset, settings, lazy=lazy) + sets
    fixed = {
        BASE: now - held + LATER,
        TABLES: sum(one.nbytes for one in tables),
        ARRAYS: bytes_of(prepared.data),
    }
    before = {BASE: compiling - held, TABLES: fixed[TABLES]}
    working = {CHAINS: program.working, DRAWS: pending, SETS: one_set if on_disk else sets}
    joined = working | {CHAINS: bytes_of(program.state), SETS: sets}
    if settings.until_ess is not None and not on_disk:  # draws grow while chains wait
        joined |= {DRAWS: 2 * kept, SETS: 2 * sets}
    return MemoryPlan(
        {
            "compilation": before,
            "set-up": fixed | {SET_UP: _set_up_bytes(prepared.data)},
            "sampling": fixed | working,
            "result": fixed | joined | {RESULT: results},
        },
        _available(now),
    )


def _available(now: int) -> int | None:
    room = machine_memory.available()
    return None if room is None else room + now


def _arrays_of(dataset: Dataset) -> list[np.ndarray]:
    return [dataset.genotypes, dataset.omics, dataset.phenotype, *dataset.relationships.values()]


def _held(array: np.ndarray) -> int:
    """Bytes that an array takes; sizes without data are one number seen as many."""
    return 0 if 0 in array.strides else array.nbytes


def _set_up_bytes(data: ModelData) -> int:
    """Working memory of the largest step before the run; omics are there three times for a time."""
    layers: tuple[LayerArrays, ...] = (*data.omics, data.trait)
    steps = [3 * 8 * data.z_start.size]
    for term in (term for layer in layers for term in layer.terms):
        n, p = term.markers.n_records, term.markers.n_markers
        steps.append(decoding_bytes(n))
        if term.spectrum is not None:
            steps.append(spectrum_bytes(n, p))
    return max(steps)


def _draw_bytes(program: Program) -> int:
    """What a draw of all chains takes."""
    draws = jax.tree.leaves(program.collected)
    return bytes_of(program.collected) // draws[0].shape[1]


def _site_bytes(settings: RunSettings, data: ModelData) -> list[int]:
    """What one draw of each large site takes, all chains."""
    nodes, n = data.z_start.shape
    values = {"marker_effect": nodes * data.n_markers, "skip_effect": data.n_markers}
    values["omics"] = nodes * n
    return [4 * settings.chains * values[name] for name in settings.keep]


def _pending_bytes(program: Program, sites: list[int], size: int) -> int:
    """Draws that do not fill a chunk yet, those of a piece in units, and one chunk as written."""
    first, *_ = draws = jax.tree.leaves(program.collected)
    each = [bytes_of(leaf) // first.shape[1] for leaf in draws]
    each += [max(each)] * 2 + sites  # two more values of each individual
    tails = [one * draws_in_chunk(one) for one in each]
    return sum(tails) + 2 * size * sum(each) + 2 * max(tails)


def _result_bytes(program: Program, dataset: Dataset, settings: RunSettings, *, lazy: bool) -> int:
    """Posterior in single precision, with two more values of each individual, and moments.

    A lazy one is read a variable at a time, of which three of individuals are added up at most.
    """
    draws = program.collected["draw"]
    count = sum(leaf.size for leaf in jax.tree.leaves(draws))
    count = count * settings.kept // jax.tree.leaves(draws)[0].shape[1]
    of_individuals = settings.chains * settings.kept * len(dataset.ids)
    moments = bytes_of(program.state.sums) // settings.chains
    return 4 * (3 * of_individuals if lazy else count + 2 * of_individuals) + moments

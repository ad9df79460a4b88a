"""Predicted memory: what it is made of, how it grows, and what becomes of a fit that needs more."""

import jax.numpy as jnp
import numpy as np
import pytest

import nnmm_jax as nm
from nnmm_jax import api, machine_memory
from nnmm_jax.data.sizes import Sizes
from nnmm_jax.inference import build_terms, memory_plan
from nnmm_jax.inference.build_shapes import ShapeBuilder, bytes_of, shape_of, shapes
from nnmm_jax.inference.kernel import KernelState
from nnmm_jax.inference.memory_plan import (
    ARRAYS,
    BASE,
    CHAINS,
    DRAWS,
    GIB,
    RESULT,
    SETS,
    TABLES,
    MemoryPlan,
)
from nnmm_jax.inference.prepare import prepare
from nnmm_jax.inference.run import Program, piece_size

SIZES = Sizes(50, 40, 3)
PLAN = MemoryPlan({"set-up": {BASE: GIB}, "result": {BASE: GIB, DRAWS: 6 * GIB, SETS: 2 * GIB}}, 0)


@pytest.fixture
def uncompiled(monkeypatch):
    """Plans without the seconds that compilation takes: a program of like shapes."""

    def program(data, activation, settings):
        size = piece_size(settings.warmup, settings.samples)
        epv = shape_of((settings.chains, size, data.y_precision.shape[0]))
        parts = dict.fromkeys(KernelState._fields)
        state = KernelState(**parts | {"sums": shape_of((settings.chains, 9))})
        return Program(state, {"draw": {"epv": epv}}, 1000 * settings.chains)

    monkeypatch.setattr(memory_plan, "compiled_program", program)
    monkeypatch.setattr(
        memory_plan, "snapshot_shapes", lambda state, data, chains: shape_of((chains, 7))
    )


def plan_of(sizes, network=None, **length):
    network = nm.Network() if network is None else network
    return nm.Model(sizes.dataset(), network).plan(**{"warmup": 50, "samples": 100} | length)


def test_parts_add_up():
    assert (PLAN.phase, PLAN.peak) == ("result", 9 * GIB)
    assert list(PLAN.parts) == [DRAWS, SETS, BASE]
    table = PLAN.table()
    np.testing.assert_allclose(table.loc["all"], [1.0, 9.0])
    assert table.loc[DRAWS, "set-up"] == 0
    assert "9.00 GB at most, in the result" in PLAN.lines()[0]


@pytest.mark.usefixtures("uncompiled")
def test_parts_grow_with_what_they_hold():
    def sampling(sizes=SIZES, **length):
        return plan_of(sizes, **length).phases["sampling"]

    one, more = sampling(), sampling(samples=200)
    assert more[DRAWS] == 2 * one[DRAWS] == 4 * 4 * 200 * 50
    assert more[SETS] == 2 * one[SETS] > 0
    assert all(more[part] == one[part] for part in (TABLES, ARRAYS, CHAINS))
    chains = sampling(chains=8)
    assert chains[CHAINS] == 2 * one[CHAINS]
    assert chains[DRAWS] == 2 * one[DRAWS]
    markers = sampling(Sizes(50, 400, 3))
    assert markers[TABLES] - one[TABLES] == 50 * 360
    assert markers[ARRAYS] > 5 * one[ARRAYS]


@pytest.mark.usefixtures("uncompiled")
def test_a_run_that_goes_on_is_as_long_as_it_may_become():
    usual, open_end = plan_of(SIZES), plan_of(SIZES, until_ess=100, max_samples=500)
    assert open_end.phases["sampling"][DRAWS] == 5 * usual.phases["sampling"][DRAWS]
    assert open_end.phases["result"][DRAWS] == 10 * usual.phases["result"][DRAWS]
    assert open_end.phases["result"][RESULT] > 4 * usual.phases["result"][RESULT]


@pytest.mark.usefixtures("uncompiled")
def test_sizes_plan_as_data_of_these_sizes():
    """All but what the process holds, which changes while it runs."""
    network = nm.Network(skip_prior="BayesC")
    of_sizes, of_data = (
        nm.Model(SIZES.dataset(filled=filled), network).plan(warmup=50, samples=50)
        for filled in (False, True)
    )
    for phase, parts in of_sizes.phases.items():
        found = of_data.phases[phase]
        assert {**parts, BASE: 0} == {**found, BASE: 0}


def test_sizes_take_no_memory():
    genotypes = Sizes(20_000, 50_000, 2).dataset().genotypes
    assert genotypes.shape == (20_000, 50_000)
    assert genotypes.strides == (0, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((1, 5), "individuals: expected a whole number of at least 2, found 1"),
        ((10, 2.5), "markers: expected a whole number of at least 0, found 2.5"),
        ((10, 5, 1, 0.9), "without_omics: expected a share from 0 to 1 that leaves two"),
        ((10, 5, 1, 0.1, 1.0), "without_phenotype: expected a share"),
    ],
)
def test_sizes__raise_on_wrong_numbers(given, message):
    with pytest.raises(nm.InputError, match=message):
        Sizes(*given)


@pytest.mark.parametrize(
    ("network", "sizes"),
    [
        (nm.Network(skip_prior="BayesC"), SIZES),
        (nm.Network(marker_prior="GBLUP", skip_prior="RR-BLUP"), SIZES),
        (nm.Network(marker_prior="RR-BLUP", latent=1), Sizes(50, 80, 2)),
        (nm.Network(marker_prior=None, random_omics=[nm.Relationship("K")]), SIZES),
    ],
    ids=["swept", "spectra", "more markers", "relationship"],
)
def test_shapes_are_those_of_the_arrays(network, sizes):
    dataset = sizes.dataset(filled=True)
    dataset.relationships["K"] = np.eye(50) + 0.1
    real, planned = (
        prepare(dataset, network, build=build) for build in (build_terms.TermBuilder, ShapeBuilder)
    )
    assert shapes(planned.data) == shapes(real.data)
    assert bytes_of(planned.data) == bytes_of(real.data)


def test_what_is_there_twice_counts_once():
    leaf = jnp.zeros((3, 2))
    assert bytes_of({"a": leaf, "b": [leaf, jnp.zeros(5, bool)]}) == leaf.nbytes + 5


def test_plan__raises_on_more_than_there_is():
    with pytest.raises(
        nm.InputError, match=r"at most 5.00 GB.*one of 9.00 GB in the result"
    ) as one:
        MemoryPlan(PLAN.phases, 5 * GIB).check()
    assert "largest part draws (6.00 GB); use fewer samples or chains" in str(one.value)
    MemoryPlan(PLAN.phases, 9 * GIB).check()
    MemoryPlan(PLAN.phases, None).check()


@pytest.mark.usefixtures("uncompiled")
def test_fit__raises_before_it_takes_memory(monkeypatch):
    monkeypatch.setattr(machine_memory, "available", lambda: 0)
    monkeypatch.setattr(build_terms, "build_marker_matrix", lambda *_: pytest.fail("was built"))
    monkeypatch.setattr(api, "run_chains", lambda *_, **__: pytest.fail("was run"))
    with pytest.raises(nm.InputError, match="memory: expected a fit of at most"):
        nm.fit(SIZES.dataset(), warmup=50, samples=10**6, progress=False)


def write_system(folder, monkeypatch, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(machine_memory, "_PROC", folder / "proc")
    monkeypatch.setattr(machine_memory, "_CGROUPS", folder / "cgroup")


def test_available_memory_is_that_of_the_machine_or_its_control_groups(tmp_path, monkeypatch):
    files = {
        "proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n",
        "proc/self/cgroup": "0::/job/step\n",
        "proc/self/status": "VmRSS:\t 77 kB\n",
    }
    write_system(tmp_path, monkeypatch, files)
    assert machine_memory.resident() == 77 * 1024
    assert machine_memory.available() == 4000 * 1024
    job = {
        "cgroup/job/step/memory.max": "max\n",
        "cgroup/job/memory.max": "1000000\n",
        "cgroup/job/memory.current": "900000\n",
        "cgroup/job/memory.stat": "anon 5\ninactive_file 50000\n",
    }
    write_system(tmp_path, monkeypatch, job)
    assert machine_memory.available() == 150_000
    old = {
        "proc/self/cgroup": "4:cpu:/\n3:memory:/elsewhere\n",
        "cgroup/memory/memory.limit_in_bytes": "70000",
        "cgroup/memory/memory.usage_in_bytes": "80000",
    }
    write_system(tmp_path, monkeypatch, old)
    assert machine_memory.available() == 0


def test_available_memory_may_be_unknown(tmp_path, monkeypatch):
    write_system(tmp_path, monkeypatch, {"proc/meminfo": "MemTotal: 9000 kB\n"})
    assert machine_memory.available() is None
    assert machine_memory.resident() > 0

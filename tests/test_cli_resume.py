"""``nnmm fit --resume``: runs from a shell that were killed, ended by a signal, or made longer."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nnmm_jax as nm
from nnmm_jax import cli
from nnmm_jax.errors import RunInterrupted
from nnmm_jax.inference.recording import Recording

ROOT = Path(__file__).parents[1]
SETTINGS = "--trait y --skip-prior RR-BLUP --seed 3 --chains 2 --warmup 20 --quiet".split()
DATA = "--genotypes g.csv --phenotypes p.csv".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, and the results of a run of 60 samples without interruption."""
    folder = tmp_path_factory.mktemp("resume")
    sizes = nm.SimulationSettings(individuals=40, markers=30, omics=1)
    made = nm.simulate(sizes, seed=2)
    made.genotypes.to_csv(folder / "g.csv")
    made.phenotypes.to_csv(folder / "p.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert cli.main([*words("whole"), "--samples", "60"]) == 0
    return folder


def words(out):
    return ["fit", *DATA, *SETTINGS, "--out", out, "--checkpoint-every", "20"]


def interrupt(monkeypatch, sweeps, number=signal.SIGTERM):
    """Let a signal come when so many sweeps are done."""
    is_due = Recording.is_due

    def due(self, done):
        if done == sweeps:
            signal.raise_signal(number)
        return is_due(self, done)

    monkeypatch.setattr(Recording, "is_due", due)


def assert_same_results(one, two):
    """All tables, and all that is in ``posterior.nc``."""
    tables = sorted(path.name for path in one.glob("*.csv"))
    assert tables == sorted(path.name for path in two.glob("*.csv"))
    for name in tables:
        assert (one / name).read_text() == (two / name).read_text()
    first, second = nm.load(one), nm.load(two)
    for group, dataset in first.groups.items():
        assert set(dataset) == set(second.groups[group])
        for name, value in dataset.items():
            np.testing.assert_array_equal(value, second.groups[group][name], err_msg=name)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_what_resume_needs(place, monkeypatch, capsys, number, code):
    monkeypatch.chdir(place)
    out = f"signal{code}"
    with monkeypatch.context() as patched:
        interrupt(patched, 40, number)
        assert cli.main([*words(out), "--samples", "60"]) == code
    (last,) = (line for line in capsys.readouterr().err.splitlines() if "go on with" in line)
    assert last.startswith(f"nnmm: stopped by {signal.Signals(number).name} after 60 sweeps")
    assert f"nnmm fit --resume {out}" in last
    assert [path.name for path in (place / out).iterdir()] == ["checkpoint"]
    assert cli.main([*words(out), "--samples", "60"]) == 2  # a run is not begun over another
    assert "holds a run: go on with it" in capsys.readouterr().err
    monkeypatch.chdir(place.parent)  # files are found by the names that they had
    assert cli.main(["fit", f"--resume={place / out}", "--quiet"]) == 0
    assert_same_results(place / "whole", place / out)
    run = json.loads((place / out / "run.json").read_text())
    assert run["resumed"] == 1
    assert run["files"]["genotypes"] == "g.csv"


def test_draws_are_added_to_finished_results(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert cli.main([*words("short"), "--samples", "20"]) == 0
    assert cli.main("fit --resume short --samples 60".split()) == 0
    printed = capsys.readouterr()
    assert "going on after 40 sweeps (20 of them kept)" in printed.err
    assert "results: short" in printed.out
    assert_same_results(place / "whole", place / "short")


def test_a_limit_of_time_is_said_and_the_run_goes_on(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    flags = ["--samples", "60", "--max-minutes", "50"]
    with monkeypatch.context() as patched:
        is_due, monotonic = Recording.is_due, time.monotonic

        def due(self, done):
            if done == 40:
                patched.setattr(time, "monotonic", lambda: monotonic() + 3600.0)
            return is_due(self, done)

        patched.setattr(Recording, "is_due", due)
        assert cli.main([*words("limited"), *flags]) == 0
    assert "warning: stopped after 50 minutes with 40 of 60" in capsys.readouterr().err
    assert json.loads((place / "limited/run.json").read_text())["stopped"]["samples"] == 40
    assert cli.main("fit --resume limited --quiet".split()) == 0
    assert_same_results(place / "whole", place / "limited")


def test_a_process_that_is_killed_loses_nothing(place, tmp_path):
    """SIGKILL while it samples, of a process of its own."""
    environment = os.environ | {
        "NNMM_JAX_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", "nnmm_jax.cli"]
    begin = [*command, *words("killed"), "--samples", "4000"]
    process = subprocess.Popen(begin, cwd=place, env=environment)
    folder = place / "killed" / "checkpoint"
    while process.poll() is None and len(list(folder.glob("0*.json"))) < 2:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (place / "killed" / "run.json").exists()
    done = max(int(file.stem) for file in folder.glob("0*.json"))
    assert 20 < done < 4020
    again = [*command, "fit", "--resume", "killed", "--quiet", "--max-minutes", "0.02"]
    subprocess.run(again, cwd=place, env=environment, check=True)
    result = nm.load(place / "killed")
    count = min(result.posterior.sizes["draw"], 60)
    assert result.posterior.sizes["draw"] + 20 > done
    whole = nm.load(place / "whole")
    for name, value in whole.posterior.isel(draw=slice(count)).data_vars.items():
        np.testing.assert_array_equal(value, result.posterior[name][:, :count], err_msg=name)


def test_lazy_results_can_be_moved(place, monkeypatch, tmp_path):
    monkeypatch.chdir(place)
    flags = "--samples 60 --thin 20 --keep skip_effect --lazy".split()
    assert cli.main([*words("lazy"), *flags]) == 0
    (place / "lazy").rename(tmp_path / "elsewhere")
    result = nm.load(tmp_path / "elsewhere")
    assert result.posterior["skip_effect"].shape == (2, 3, 30, 1)
    whole = nm.load(place / "whole").posterior["epv"][:, 19::20]
    np.testing.assert_array_equal(result.posterior["epv"], whole)
    assert len(pd.read_csv(tmp_path / "elsewhere" / "breeding_values.csv")) == 40


def test_without_checkpoints_there_are_none(place, monkeypatch):
    monkeypatch.chdir(place)
    assert cli.main([*words("none"), "--samples", "60", "--no-checkpoint"]) == 0
    assert not (place / "none" / "checkpoint").exists()
    assert_same_results(place / "whole", place / "none")


def test_overwrite_begins_anew(place, monkeypatch):
    monkeypatch.chdir(place)
    assert cli.main([*words("anew"), "--samples", "20"]) == 0
    assert cli.main([*words("anew"), "--samples", "60", "--overwrite"]) == 0
    assert_same_results(place / "whole", place / "anew")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--resume nowhere", "expected checkpoints of a run, found no settings.json"),
        ("--resume whole --samples 20", "samples: expected at least the 60 that there are"),
        ("--resume python", "expected a run of nnmm fit, found one of Python"),
    ],
)
def test_resume__raises_on_what_it_cannot_do(place, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(place)
    inner = place / "python" / "checkpoint"
    inner.mkdir(parents=True, exist_ok=True)
    (inner / "settings.json").write_text('{"format": 1, "command": {}}')
    assert cli.main(["fit", *flags.split()]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("nnmm: error: ")
    assert message in error


def test_resume__raises_on_other_flags(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main("fit --resume whole --trait z".split())
    assert "unrecognized arguments: --trait z" in capsys.readouterr().err


def test_resume__raises_where_the_data_have_changed(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    table = pd.read_csv("p.csv")
    try:
        table.assign(y=table["y"] + 1).to_csv("p.csv", index=False)
        assert cli.main("fit --resume whole --quiet".split()) == 2
    finally:
        table.to_csv("p.csv", index=False)
    assert "found one of other data" in capsys.readouterr().err


def test_fit__raises_on_keep_without_a_place(capsys, place, monkeypatch):
    monkeypatch.chdir(place)
    assert cli.main([*words("kept"), "--no-checkpoint", "--keep", "skip_effect"]) == 2
    assert "--keep: expected a fit by mcmc without --no-checkpoint" in capsys.readouterr().err
    assert not (place / "kept").exists()


def test_codes_of_interruptions():
    assert (RunInterrupted("", 2).exit_code, RunInterrupted("", 15).exit_code) == (130, 143)

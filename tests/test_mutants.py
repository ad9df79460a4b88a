"""The table of planted faults fits the package, and the script says what becomes of them."""

import dataclasses
import importlib.util
import os
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # the script imports its table by name
    spec.loader.exec_module(module)
    return module


table = load_script("mutants_table")
mutants = load_script("mutants")
CHEAP = table.Mutant(
    name="cheap",
    what="a list of names without quotes",
    file="nnmm_jax/errors.py",
    old="""f"'{name}'" for""",
    new='f"{name}" for',
    tests=("tests/data/test_tables.py::test_shortlist_of_nothing", "nnmm_jax/errors.py"),
)
HARMLESS = dataclasses.replace(CHEAP, name="harmless", new="""f"'{name!s}'" for""")
STALE = dataclasses.replace(CHEAP, name="gone", old="no such text")
BROKEN = dataclasses.replace(CHEAP, name="broken", new='f"{name" for')


@pytest.mark.parametrize("mutant", table.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_package(mutant):
    """Its text is there once, it compiles, and its tests are there."""
    planted = mutants.planted(mutant, ROOT)
    assert planted != (ROOT / mutant.file).read_text(encoding="utf-8")
    compile(planted, mutant.file, "exec")
    assert mutant.tests
    for test in mutant.tests:
        file, function = re.fullmatch(r"(tests/[\w/]+\.py)::(test_\w+)(?:\[.+\])?", test).groups()
        assert f"\ndef {function}(" in (ROOT / file).read_text(encoding="utf-8")


def test_names_are_unique_words():
    names = [mutant.name for mutant in table.MUTANTS]
    assert len(set(names)) == len(names) >= 25
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


def test_mutants_are_caught_or_not(tmp_path, capsys, monkeypatch):
    """End to end: a fault that a test sees, one that none sees, a stale one, and no Python."""
    every = (CHEAP, HARMLESS, STALE, BROKEN)
    monkeypatch.setattr(mutants, "MUTANTS", every)
    before = (ROOT / CHEAP.file).read_text(encoding="utf-8")
    assert mutants.main(["--out", str(tmp_path / "table.csv"), "--jobs", "2"]) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].startswith("without a fault: all pass")
    assert re.match(r"caught +\d+ s  cheap by nnmm_jax/errors.py::", lines[1])
    assert lines[-1].startswith("1 of 4 faults caught")
    wrong = printed.err.splitlines()
    assert wrong[0].startswith("mutants: survived: harmless (4 passed")
    assert wrong[1].startswith(
        "mutants: stale: gone (expected its text once in nnmm_jax/errors.py, found it 0 times"
    )
    assert wrong[2].startswith("mutants: not run: broken")
    found = pd.read_csv(tmp_path / "table.csv").set_index("name")
    assert list(found["verdict"]) == ["caught", "survived", "stale", "not run"]
    assert found.loc["cheap", "what"] == CHEAP.what
    assert (ROOT / CHEAP.file).read_text(encoding="utf-8") == before


def test_mutants__say_which_tests_fail_without_a_fault(capsys, monkeypatch):
    missing = dataclasses.replace(CHEAP, tests=("tests/data/test_tables.py::test_no_such",))
    monkeypatch.setattr(mutants, "MUTANTS", (missing,))
    assert mutants.main([]) == 1
    assert "mutants: fails without a fault: " in capsys.readouterr().err


def test_mutants_are_listed(capsys):
    assert mutants.main(["--list", "--only", "pi-in-sweep,df-of-variances"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["df-of-variances", "pi-in-sweep"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "nothing"], "expected names that --list shows, found 'nothing'"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--timeout", "0"], "--timeout must be at least 1"),
        (["--out", "no/such/folder/table.csv"], "expected a file in a folder"),
    ],
)
def test_mutants__refuses_in_one_line(capsys, words, message):
    assert mutants.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mutants: error: ")
    assert message in line


def test_script_can_be_called():
    assert os.access(ROOT / "scripts" / "mutants", os.X_OK)

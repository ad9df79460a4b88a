import os
from pathlib import Path

import pandas as pd
import pytest

from nnmm_jax import cli

SHARED = Path(os.environ.get("NNMM_SHARED", Path(__file__).parents[2] / "shared"))


def write(folder):
    ids = [f"i{i}" for i in range(8)]
    frames = {
        "genotypes": {"id": ids, "m1": [0, 1, 2, 1] * 2, "m2": [0, 0, 0, 0, 0, 0, 0, 1]},
        "omics": {"id": ids[:5], "g": [1.0, 2.0, 3.0, 4.0, 99.0]},
        "phenotypes": {"id": [*ids[2:], "x"], "y": [float(i) for i in range(7)]},
    }
    words = ["check", "--trait", "y"]
    for name, columns in frames.items():
        pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False)
        words += [f"--{name}", str(folder / f"{name}.csv")]
    return words


def test_check_prints_counts_quality_and_ids(tmp_path, capsys):
    rules = ["--min-maf", "0.1", "--max-omics-sd", "6", "--min-call-rate-markers", "0.9"]
    assert cli.main([*write(tmp_path), *rules]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "individuals genotyped: 8 (all are analysed)",
        "  with omics: 4 complete, 0 partial, 4 none",
        "  with phenotype 'y': 6; with omics too: 2",
        "  candidates with neither: 0",
        "markers: 1; dropped: 0 constant, 0 without data",
        "genotype cells missing, replaced by the marker's mean: 0 (0.00%)",
        "markers that count the more frequent allele: 0; where nobody has two copies: 0, "
        "nobody none: 0",
        "left out by quality control:",
        "  markers, call rate below 0.9: 0",
        "  markers, minor allele frequency below 0.1: 1 ('m2')",
        "  omics cells, more than 6 standard deviations from the median, made missing: 1 "
        "('g of i4')",
        "omics: 1 columns; cells missing: 4 (50.00%)",
        "rows of phenotypes dropped, not genotyped: 1 ('x')",
        "",
        "ids (x: has values there)",
        "genotypes  omics  phenotypes  ids  first  contribution",
        "x          x      x             3  i2     effects on omics and of omics on the trait",
        "x          -      x             3  i5     effects on the trait; omics are sampled",
        "x          x      -             2  i0     effects on omics; the trait is predicted",
        "-          -      x             1  x      none: not genotyped",
    ]
    assert cli.main([*write(tmp_path), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--min-maf", "5"], "expected minor_allele_frequency from 0 to 0.5, found 5.0"),
        (["--max-omics-sd", "-1"], "expected omics_outliers above 0, found -1.0"),
    ],
)
def test_check__refuses_impossible_limits(tmp_path, capsys, flags, message):
    assert cli.main([*write(tmp_path), *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "trait", "genotyped"),
    [
        ("arabidopsis_ril", "4.Benzoyloxybutyl", 162),
        ("wheat_htp", "YLD_E1", 776),
        ("nnmm_paper_part3_SIMULATED", "y", 1055),
    ],
)
def test_check_reports_on_real_data(capsys, name, trait, genotyped):
    folder = SHARED / "data" / name
    if not folder.is_dir():
        pytest.skip(f"needs the data set {name}, see the README")
    words = ["check", "--trait", trait, "--min-call-rate-markers", "0.9", "--min-maf", "0.05"]
    for table, file in (
        ("genotypes", "genotypes.parquet"),
        ("omics", "omics.parquet"),
        ("phenotypes", "phenotypes.csv"),
    ):
        words += [f"--{table}", str(folder / file)]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert f"individuals genotyped: {genotyped}" in printed
    assert "minor allele frequency below 0.05: " in printed
    assert "effects on omics and of omics on the trait" in printed

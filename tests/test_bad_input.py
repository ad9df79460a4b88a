"""Malformed input through the command line: exit code 2, one line that says what, where and what to
do, and nothing written. ``nnmm check`` reads the data as ``nnmm fit`` does."""

import contextlib
import gzip
import io
import json
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from nnmm_jax import Dosages, cli
from nnmm_jax.data import write_dosages

IDS = ("i0", "i1", "i2", "i3", "i4", "i5")
CODES = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2], [2, 1, 0]], np.int8)
TEXTS = {
    "genotypes": "id,m0,m1,m2\ni0,0,1,2\ni1,1,2,0\ni2,2,0,1\ni3,0,2,1\ni4,1,0,2\ni5,2,1,0\n",
    "omics": "id,leaf,root\ni0,1.5,2\ni1,2.5,1\ni2,3.5,4\ni3,,3\n",
    "phenotypes": "id,y,sex,w\ni0,1.5,f,1\ni1,2.5,m,2\ni2,3.5,f,1\ni3,,m,3\n",
    "pedigree": "id,sire,dam\n" + "".join(f"{label},s,0\n" for label in IDS),
}
VCF_HEAD = (
    "##fileformat=VCFv4.2\n##contig=<ID=1>\n"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">\n'
    '##FORMAT=<ID=DS,Number=1,Type=Float,Description="dosage">\n'
    '##FORMAT=<ID=XX,Number=1,Type=Integer,Description="other">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ti0\ti1\ti2\n"
)
VCF_LINE = "1\t{pos}\t{name}\tA\t{alt}\t.\t.\t.\t{form}\t{cells}\n"


def record(cells: str, pos: object = 10, name: str = "m0", alt: str = "G", form: str = "GT") -> str:
    return VCF_LINE.format(pos=pos, name=name, alt=alt, form=form, cells="\t".join(cells.split()))


FINE = record("0/0 0/1 1/1")

# Case: table, content of its file, what the message must have. The file is TABLE.csv.
TEXT_CASES = {
    "empty file": ("genotypes", "", ["an empty file"]),
    "blank lines": ("genotypes", "\n \n\n", ["an empty file"]),
    "only a byte order mark": ("genotypes", b"\xef\xbb\xbf", ["an empty file"]),
    "header only": ("genotypes", "id,m0,m1\n", ["at least one row"]),
    "one column": ("genotypes", "id\na\nb\n", ["an id column and others"]),
    "no markers but commas": ("genotypes", "id,\na,\nb,\n", ["a name for every column"]),
    "semicolons": ("genotypes", "id;m0\ni0;1\ni1;2\n", ["the one column 'id;m0'"]),
    "pipes": ("genotypes", "id|m0\ni0|1\ni1|2\n", ["the one column 'id|m0'"]),
    "tabs in csv": ("genotypes", "id\tm0\ni0\t1\n", ["the one column"]),
    "id twice": ("genotypes", "id,m0\ni0,1\ni0,2\n", ["'i0' more than once"]),
    "id twice but for blanks": ("genotypes", "id,m0\ni0,1\n i0,2\n", ["'i0' more than once"]),
    "id missing": ("genotypes", "id,m0\ni0,1\n,2\n", ["an id in every row", "data row '2'"]),
    "id NA": ("genotypes", "id,m0\ni0,1\nNA,2\n", ["an id in every row", "data row '2'"]),
    "header twice": ("genotypes", "id,m0,m0\ni0,1,2\n", ["'m0' more than once"]),
    "header twice but for blanks": ("genotypes", "id,m0, m0 \ni0,1,2\n", ["'m0' more than once"]),
    "column without name": ("genotypes", "id,m0,,m2\ni0,1,2,0\n", ["found none for column 3"]),
    "second header row": ("genotypes", "id,m0\nid,m0\ni0,1\n", ["found 'm0' in column 'm0'"]),
    "short row": ("genotypes", "id,m0,m1\ni0,1,2\ni1,1\n", ["Expected 3 columns, got 2"]),
    "long row": ("genotypes", "id,m0,m1\ni0,1,2\ni1,1,2,0\n", ["Expected 3 columns, got 4"]),
    "cut in a row": ("genotypes", TEXTS["genotypes"][:-5], ["Expected 4 columns, got"]),
    "quote left open": ("genotypes", 'id,m0\ni0,1\ni1,"2\ni2,0\n', ["genotypes.csv"]),
    "id not first": ("genotypes", ",id,m0\n1,i0,1\n2,i1,0\n", ["ids in the first column"]),
    "alleles": ("genotypes", "id,m0\ni0,AA\ni1,AG\n", ["found 'AA' in column 'm0', id 'i0'"]),
    "calls": ("genotypes", "id,m0\ni0,0/0\ni1,0/1\n", ["found '0/0' in column 'm0'"]),
    "mixed coding": ("genotypes", "id,m0\ni0,1\ni1,AG\n", ["found 'AG' in column 'm0', id 'i1'"]),
    "decimal commas": ("genotypes", 'id,m0\ni0,"0,5"\ni1,1\n', ["found '0,5' in column 'm0'"]),
    "coded -1 0 1": ("genotypes", "id,m0\ni0,-1\ni1,1\n", ["found -1", "add 1 to a coding"]),
    "coded 0 1 2 3": ("genotypes", "id,m0\ni0,0\ni1,3\n", ["found 3 in column 'm0', id 'i1'"]),
    "missing as 9": ("genotypes", "id,m0\ni0,0\ni1,9\n", ["found 9", "leave the cell empty"]),
    "missing as -9": ("genotypes", "id,m0\ni0,0\ni1,-9\n", ["found -9", "leave the cell empty"]),
    "missing as ?": ("genotypes", "id,m0\ni0,0\ni1,?\n", ["found '?' in column 'm0', id 'i1'"]),
    "infinite": ("genotypes", "id,m0\ni0,0\ni1,inf\n", ["found inf in column 'm0', id 'i1'"]),
    "too large for a number": ("genotypes", "id,m0\ni0,0\ni1,1e999\n", ["in column 'm0'"]),
    "not UTF-8": ("genotypes", b"id,m0\ni\xe9,1\ni1,0\n", ["utf-8", "in UTF-8"]),
    "UTF-16": ("genotypes", "id,m0\ni0,1\n".encode("utf-16"), ["UTF-8"]),
    "null bytes": ("genotypes", b"\0" * 200, ["genotypes.csv"]),
    "random bytes": ("genotypes", bytes(range(128, 256)) * 4, ["genotypes.csv"]),
    "a web page": ("genotypes", "<!DOCTYPE html>\n<html>\n", ["the one column '<!DOCTYPE html>'"]),
    "JSON": ("genotypes", '[{"id": 1, "m0": 2}]\n', ["genotypes.csv: expected"]),
    "a pickle": ("genotypes", pickle.dumps({"id": [1], "m0": [2]}), ["genotypes.csv: expected"]),
    "all missing": ("genotypes", "id,m0\ni0,\ni1,NA\n", ["markers that vary, found 1 marker(s)"]),
    "all equal": ("genotypes", "id,m0,m1\ni0,1,2\ni1,1,2\n", ["markers that vary, found 2"]),
    "one individual": ("genotypes", "id,m0,m1\ni0,1,2\n", ["markers that vary, found 2"]),
    "strangers only": ("genotypes", "id,m0\nx0,1\nx1,0\n", ["found none in common ('i0', 'i1'"]),
    "ids in capitals": ("genotypes", "id,m0\nI0,1\nI1,0\n", ["'i0' is 'I0' there"]),
    "ids with zeros": ("genotypes", "id,m0\ni00,1\ni01,0\n", ["write ids alike"]),
    "omics empty": ("omics", "", ["omics", "an empty file"]),
    "omics without columns": ("omics", "id\ni0\ni1\n", ["an id column and others"]),
    "omics with text": ("omics", "id,leaf\ni0,1\ni1,high\n", ["'high' in column 'leaf', id 'i1'"]),
    "omics with decimal commas": ("omics", 'id,leaf\ni0,"1,5"\ni1,2\n', ["found '1,5'"]),
    "omics with units": ("omics", "id,leaf\ni0,1mg\ni1,2mg\n", ["found '1mg' in column 'leaf'"]),
    "omics below detection": ("omics", "id,leaf\ni0,<0.1\ni1,2\n", ["found '<0.1'"]),
    "omics infinite": ("omics", "id,leaf\ni0,1\ni1,-inf\n", ["found -inf in column 'leaf'"]),
    "omics all missing": ("omics", "id,leaf,root\ni0,1,\ni1,2,\n", ["found none in 'root'"]),
    "omics all equal": ("omics", "id,leaf\ni0,1\ni1,1\n", ["one value throughout in 'leaf'"]),
    "omics of one": ("omics", "id,leaf\ni0,1\n", ["one value throughout in 'leaf'"]),
    "omics of strangers": ("omics", "id,leaf\nx0,1\nx1,2\n", ["found none in common"]),
    "omics repeated": ("omics", "id,leaf\ni0,1\ni0,2\n", ["only phenotypes may be recorded"]),
    "omics with the trait": ("omics", "id,y\ni0,1\ni1,2\n", ["differ from the trait's"]),
    "omics header twice": ("omics", "id,leaf,leaf\ni0,1,2\n", ["'leaf' more than once"]),
    "phenotypes empty": ("phenotypes", "", ["phenotypes", "an empty file"]),
    "phenotypes header only": ("phenotypes", "id,y\n", ["at least one row"]),
    "trait absent": ("phenotypes", "id,z\ni0,1\n", ["the trait 'y', found the columns 'z'"]),
    "trait misspelt": ("phenotypes", "id,Y\ni0,1\n", ["the trait 'y', found the columns 'Y'"]),
    "trait of text": ("phenotypes", "id,y\ni0,tall\ni1,1\n", ["found 'tall' in column 'y'"]),
    "trait of dates": ("phenotypes", "id,y\ni0,2024-05-01\ni1,2024-05-02\n", ["'2024-05-01'"]),
    "trait with decimal commas": ("phenotypes", 'id,y\ni0,"1,5"\ni1,2\n', ["found '1,5'"]),
    "trait missing": ("phenotypes", "id,y\ni0,\ni1,NA\n", ["values of the trait 'y', found none"]),
    "trait equal": ("phenotypes", "id,y\ni0,2\ni1,2\n", ["a trait that varies, found 2"]),
    "trait of one": ("phenotypes", "id,y\ni0,2\n", ["a trait that varies, found 2"]),
    "trait infinite": ("phenotypes", "id,y\ni0,2\ni1,inf\n", ["found inf in column 'y', id 'i1'"]),
    "trait of strangers": ("phenotypes", "id,y\nx0,1\nx1,2\n", ["found none in common"]),
    "phenotypes header twice": ("phenotypes", "id,y,y\ni0,1,2\n", ["'y' more than once"]),
    "own parent": ("pedigree", "id,sire,dam\ni0,i0,0\n", ["'i0' among its own parents"]),
    "loop": ("pedigree", "id,sire,dam\ni0,i1,0\ni1,i0,0\n", ["the loop"]),
    "animal twice": ("pedigree", "id,sire,dam\ni0,0,0\ni0,0,0\n", ["'i0' more than once"]),
    "no parents": ("pedigree", "id,line\ni0,A\n", ["the columns animal, sire and dam"]),
    "sire only": ("pedigree", "id,sire,mum\ni0,0,0\n", ["columns sire and dam"]),
    "animal called 0": ("pedigree", "id,sire,dam\n0,a,b\n", ["stands for an unknown parent"]),
    "pedigree of others": ("pedigree", "id,sire,dam\nx,0,0\n", ["pedigree", "'i0', 'i1'"]),
    "groups without columns": ("marker-groups", "marker,set\nm0,a\n", ["marker groups"]),
    "groups of strangers": ("marker-groups", "marker,group\nmx,a\n", ["marker groups", "'mx'"]),
    "marker in two groups": ("marker-groups", "marker,group\nm0,a\nm0,b\n", ["marker groups"]),
    "connections without columns": ("connections", "marker,gene\nm0,leaf\n", ["connections"]),
    "connections of strangers": ("connections", "marker,node\nmx,leaf\n", ["'mx'"]),
}

# Case: flags besides or in place of the usual ones (None leaves one out), what the message has.
FLAG_CASES = {
    "file absent": ({"genotypes": "nowhere.csv"}, ["nowhere.csv: expected a file, found nothing"]),
    "folder": ({"genotypes": "folder.csv"}, ["folder.csv: expected a file, found a folder"]),
    "spreadsheet": ({"genotypes": "g.xlsx"}, [".bed, .vcf", "found '.xlsx'"]),
    "pickle by name": ({"genotypes": "g.pkl"}, ["found '.pkl'"]),
    "NumPy file": ({"genotypes": "g.npy"}, ["found '.npy'"]),
    "R file": ({"omics": "o.rds"}, ["omics", "found '.rds'"]),
    "Python file": ({"phenotypes": "p.py"}, ["phenotypes", "found '.py'"]),
    "no ending": ({"genotypes": "genotypes"}, ["ending in"]),
    "omics as bed": ({"omics": "o.bed"}, ["omics", "ending in .parquet", "found '.bed'"]),
    "name too long": ({"genotypes": "x" * 300 + ".csv"}, ["check the path"]),
    "null byte in a name": ({"genotypes": "a\0b.csv"}, ["check the path"]),
    "empty name": ({"genotypes": ""}, ["expected a file, found a folder"]),
    "unreadable file": ({"genotypes": "unreadable.csv"}, ["unreadable.csv"]),
    "id column absent": ({"id-column": "animal"}, ["the id column 'animal'", "'id', 'y'"]),
    "nobody": ({"genotypes": None}, ["genotypes, a pedigree or a relationship matrix"]),
    "weights absent": ({"weights": "v"}, ["the weights 'v'", "'sex'"]),
    "weights of text": ({"weights": "sex"}, ["found 'f' in column 'sex'"]),
    "weights with zero": ({"weights": "zero"}, ["positive weights", "found 0 in column 'zero'"]),
    "weights with holes": ({"weights": "holes"}, ["positive weights", "found none in column"]),
    "omics weights absent": ({"omics-weights": "v"}, ["weights of omics 'v'"]),
    "matrix without name": ({"relationship": "K.csv"}, ["expected NAME=FILE, found 'K.csv'"]),
    "matrix absent": ({"relationship": "K=nowhere.csv"}, ["'K'", "nowhere.csv"]),
    "matrix not square": ({"relationship": "K=omics.csv"}, ["relationship 'K'"]),
    "half a cis window": ({"cis-window": "5"}, ["a cis window"]),
    "percentage": ({"min-call-rate-markers": "90"}, ["from 0 to 1, found 90"]),
    "negative share": ({"min-maf": "-0.1"}, ["from 0 to 0.5, found -0.1"]),
    "nothing passes": ({"min-maf": "0.5", "min-hwe-p": "1"}, ["pass quality control, found none"]),
    "outliers of zero": ({"max-omics-sd": "0"}, ["above 0, found 0"]),
}


def parquet_bytes(table: object) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table if isinstance(table, pa.Table) else pa.table(table), buffer)
    return buffer.getvalue()


WHOLE_PARQUET = parquet_bytes({"id": list(IDS), "m0": CODES[:, 0]})
NO_ROWS = parquet_bytes({"id": pa.array([], "string"), "m": pa.array([], "int8")})
GZ = gzip.compress(TEXTS["genotypes"].encode())
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

# Case: name of the file of genotypes, its bytes, what the message must have.
BINARY_CASES = {
    "no gzip": ("g.csv.gz", b"id,m0\ni0,1\n", ["a readable table"]),
    "gzip cut": ("g.csv.gz", GZ[: len(GZ) // 2], ["a readable table"]),
    "gzip of nothing": ("g.csv.gz", gzip.compress(b""), ["an empty file"]),
    "no parquet": ("g.parquet", b"id,m0\ni0,1\n", ["a readable table"]),
    "parquet empty": ("g.parquet", b"", ["a readable table"]),
    "parquet cut": ("g.parquet", WHOLE_PARQUET[:-60], ["a readable table"]),
    "parquet as csv": ("g.csv", WHOLE_PARQUET, ["g.csv: expected"]),
    "parquet that claims 10 GB": (
        "g.parquet",
        WHOLE_PARQUET[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1",
        ["a readable table"],
    ),
    "parquet without rows": (
        "g.parquet",
        parquet_bytes({"id": pa.array([], "string"), "m": pa.array([], "int8")}),
        ["one row"],
    ),
    "parquet with lists": ("g.parquet", parquet_bytes({"id": ["a"], "m0": [[1]]}), ["found list"]),
    "parquet with pickles": (
        "g.parquet",
        parquet_bytes({"id": ["a"], "m0": [pickle.dumps([1])]}),
        ["in column 'm0', found binary"],
    ),
    "parquet with decimal ids": (
        "g.parquet",
        parquet_bytes({"id": [1.0, 2.0], "m0": [0, 1]}),
        ["ids that are text or whole numbers"],
    ),
    "parquet with dates": (
        "g.parquet",
        parquet_bytes({"id": ["a", "b"], "m0": pd.to_datetime(["2024-01-01"] * 2)}),
        ["found '2024-01-01"],
    ),
    "vcf empty": ("g.vcf", b"", ["a VCF file"]),
    "vcf without header": ("g.vcf", FINE.encode(), ["a VCF file"]),
    "vcf without records": ("g.vcf", VCF_HEAD.encode(), ["markers, found none after the header"]),
    "vcf without samples": (
        "g.vcf",
        b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n",
        ["samples, found none"],
    ),
    "vcf with a sample twice": (
        "g.vcf",
        (VCF_HEAD.replace("i1", "i0") + FINE).encode(),
        ["sample"],
    ),
    "vcf gzip cut": ("g.vcf.gz", gzip.compress((VCF_HEAD + FINE * 50).encode())[:90], ["g.vcf.gz"]),
    "vcf bgzf cut": (
        "g.vcf.gz",
        b"\x1f\x8b\x08\x04" + b"\0" * 8 + b"BC" + BGZF_END[14:-4],
        ["the end mark of a compressed file", "cut"],
    ),
    "vcf of text": ("g.vcf", TEXTS["genotypes"].encode(), ["a VCF file"]),
    "bcf of text": ("g.bcf", TEXTS["genotypes"].encode(), ["a VCF file"]),
}

# Records after a good one, what the message must have.
VCF_CASES = {
    "row too short": (record("0/0 0/1", 11, "m1"), ["the record after 1:10"]),
    "row too long": (record("0/0 0/1 0/0 0/1", 11, "m1"), ["found 13 in line 8"]),
    "position of text": (record("0/0 0/1 1/1", "x", "m1"), ["the record after 1:10"]),
    "genotype of text": (record("0/0 foo 1/1", 11, "m1"), ["the record after 1:10"]),
    "row cut": ("1\t11\tm1\tA", ["the record after 1:10"]),
    "three alleles": (record("0/0 0/2 1/1", 11, "m1", "G,T"), ["found G,T at 1:11", "bcftools"]),
    "no alternative": (record("0/0 0/0 0/0", 11, "m1", "."), ["found none at 1:11"]),
    "allele that is not there": (record("0/0 0/5 1/1", 11, "m1"), ["found 5 at 1:11"]),
    "haploid": (record("0 1 1", 11, "m1"), ["two alleles for each individual", "1:11"]),
    "half haploid": (record("0/0 1 1/1", 11, "m1"), ["two alleles for each individual"]),
    "tetraploid": (record("0/0/0/1 0/0/1/1 0/1/1/1", 11, "m1"), ["two alleles"]),
    "neither GT nor DS": (
        record("1 2 3", 11, "m1", form="XX"),
        ["GT or dosages DS, found neither"],
    ),
    "dosage of text": (record("0.1 x 2", 11, "m1", form="DS"), ["the record after 1:10"]),
    "dosage of 3": (record("0.1 3 2", 11, "m1", form="DS"), ["found 3 in column 'm1', id 'i1'"]),
    "dosage below 0": (record("0.1 -0.5 2", 11, "m1", form="DS"), ["found -0.5 in column 'm1'"]),
    "dosage infinite": (record("0.1 inf 2", 11, "m1", form="DS"), ["found inf in column 'm1'"]),
    "name twice": (record("0/0 0/1 1/1", 11, "m0"), ["every marker once, found 'm0'"]),
    "place twice": (FINE.replace("m0", ".") * 2, ["every marker once, found '1:10:A:G'"]),
}


def edited(file: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).write_bytes(edit((folder / file).read_bytes()))

    return change


def with_json(file: str, **entries: object) -> Callable[[Path], None]:
    return edited(file, lambda old: json.dumps(json.loads(old) | entries).encode())


def without(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def claims_much(folder: Path) -> None:
    many = 10**6
    with_json("g.zarr/dosage/.zarray", shape=[many, many])(folder)
    for name in ("id", "marker", "chromosome", "position", "counted", "other"):
        with_json(f"g.zarr/{name}/.zarray", shape=[many])(folder)


def emptied(folder: Path) -> None:
    for path in sorted((folder / "g.zarr").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


# Case: what is done to good files g.bed and g.zarr, which is read, what the message must have.
SPOILT_CASES = {
    "bed cut": (edited("g.bed", lambda b: b[:-1]), "g.bed", ["expected 9 bytes", "is cut"]),
    "bed too long": (edited("g.bed", lambda b: b + b"\0"), "g.bed", ["found 10", "too long"]),
    "bed empty": (edited("g.bed", lambda b: b""), "g.bed", ["a PLINK 1 bed file"]),
    "bed of text": (edited("g.bed", lambda b: b"id,m0\n"), "g.bed", ["a PLINK 1 bed file"]),
    "bed by individuals": (
        edited("g.bed", lambda b: b"\x6c\x1b\x00" + b[3:]),
        "g.bed",
        ["in the order of markers"],
    ),
    "bed without bim": (without("g.bim"), "g.bed", ["g.bim with its markers"]),
    "bed without fam": (without("g.fam"), "g.bed", ["g.fam with its individuals"]),
    "bim given": (lambda folder: None, "g.bim", ["the bed file", "give", "g.bed"]),
    "fam given": (lambda folder: None, "g.fam", ["the bed file", "give", "g.bed"]),
    "bim shorter": (
        edited("g.bim", lambda b: b"\n".join(b.splitlines()[:-1])),
        "g.bed",
        ["the 6 individuals of the fam and the 2 markers of the bim file"],
    ),
    "fam longer": (
        edited("g.fam", lambda b: b + b"0 x1 0 0 0 0\n0 x2 0 0 0 0\n0 x3 0 0 0 0\n"),
        "g.bed",
        ["the 9 individuals of the fam"],
    ),
    "bim with five columns": (
        edited("g.bim", lambda b: b.replace(b"\tG\tA", b"\tG", 1)),
        "g.bed",
        ["six columns, found 5", "g.bim, line 1"],
    ),
    "fam with a blank in an id": (
        edited("g.fam", lambda b: b.replace(b"i2", b"i 2")),
        "g.bed",
        ["six columns, found 7", "g.fam, line 3"],
    ),
    "bim with a position of text": (
        edited("g.bim", lambda b: b.replace(b"\t0\tG", b"\tx\tG", 1)),
        "g.bed",
        ["a position in whole base pairs, found 'x'"],
    ),
    "bim with one allele twice": (
        edited("g.bim", lambda b: b.replace(b"\tG\tA", b"\tA\tA", 1)),
        "g.bed",
        ["two different alleles, found 'A' twice"],
    ),
    "bim with a marker twice": (
        edited("g.bim", lambda b: b.replace(b"m1", b"m0")),
        "g.bed",
        ["every marker once, found 'm0'"],
    ),
    "fam with an id twice": (
        edited("g.fam", lambda b: b.replace(b"i1", b"i0")),
        "g.bed",
        ["every individual once, found 'i0'"],
    ),
    "bim not UTF-8": (
        edited("g.bim", lambda b: b.replace(b"m1", b"\xe9")),
        "g.bed",
        ["text in UTF-8", "g.bim"],
    ),
    "fam empty": (edited("g.fam", lambda b: b""), "g.bed", ["individuals, found none"]),
    "zarr empty": (emptied, "g.zarr", ["g.zarr: expected a readable zarr store"]),
    "zarr without dosages": (
        without("g.zarr/dosage/.zarray"),
        "g.zarr",
        ["the arrays dosage, id, marker", "'dosage'"],
    ),
    "zarr of broken JSON": (
        edited("g.zarr/dosage/.zarray", lambda b: b[:40]),
        "g.zarr",
        ["a readable zarr store"],
    ),
    "zarr of an unknown codec": (
        with_json("g.zarr/dosage/.zarray", compressor={"id": "no-such"}),
        "g.zarr",
        ["a readable zarr store"],
    ),
    "zarr with pickles": (
        with_json("g.zarr/id/.zarray", dtype="|O", filters=[{"id": "pickle"}]),
        "g.zarr",
        ["found Python objects (pickle) in the array 'id'"],
    ),
    "zarr chunk cut": (
        edited("g.zarr/dosage/0.0", lambda b: b[: len(b) // 2]),
        "g.zarr",
        ["a readable zarr store"],
    ),
    "zarr chunk altered": (
        edited("g.zarr/dosage/0.0", lambda b: b[:-6] + b"\0" + b[-5:]),
        "g.zarr",
        ["a readable zarr store"],
    ),
    "zarr chunk absent": (
        without("g.zarr/dosage/0.0"),
        "g.zarr",
        ["expected 1 chunks of the array 'dosage', found 0"],
    ),
    "zarr of another shape": (
        with_json("g.zarr/id/.zarray", shape=[5]),
        "g.zarr",
        ["expected 6 values in the array 'id'"],
    ),
    "zarr of text": (
        with_json("g.zarr/dosage/.zarray", dtype="<U1", fill_value=""),
        "g.zarr",
        ["of numbers"],
    ),
    "zarr that claims 1 TB": (claims_much, "g.zarr", ["what fits into memory", "1000.0 GB"]),
    "zarr a file": (
        lambda folder: (folder / "h.zarr").touch(),
        "h.zarr",
        ["expected a folder, found a file"],
    ),
}

CASES = [*TEXT_CASES, *FLAG_CASES, *BINARY_CASES, *VCF_CASES, *SPOILT_CASES]


def refused(folder: Path, capfd: pytest.CaptureFixture, flags: dict, fragments: list[str]) -> None:
    """Run; also what C libraries write is looked at."""
    words = ["check"]
    for flag, value in flags.items():
        if value is not None:
            words += [f"--{flag}", str(value)]
    before = sorted((path, path.is_file() and path.stat().st_size) for path in folder.rglob("*"))
    with contextlib.chdir(folder):
        assert cli.main(words) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("nnmm: error: ")
    for fragment in ["expected ", "found ", *fragments]:
        assert fragment in lines[0]
    assert ";" in lines[0], "what to do"
    assert len(lines[0]) < 600
    after = sorted((path, path.is_file() and path.stat().st_size) for path in folder.rglob("*"))
    assert after == before


@pytest.fixture
def flags(tmp_path: Path) -> dict[str, object]:
    for table in ("genotypes", "omics", "phenotypes"):
        (tmp_path / f"{table}.csv").write_text(TEXTS[table])
    return {"trait": "y"} | {t: f"{t}.csv" for t in ("genotypes", "omics", "phenotypes")}


def test_there_are_many_cases() -> None:
    assert len(CASES) == len(set(CASES)) >= 150


def test_the_unspoilt_tables_are_read(tmp_path: Path, flags: dict, capfd) -> None:
    words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
    with contextlib.chdir(tmp_path):
        assert cli.main(["check", *words]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("case", TEXT_CASES)
def test_check__refuses_bad_text(tmp_path: Path, flags: dict, capfd, case: str) -> None:
    table, content, fragments = TEXT_CASES[case]
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / f"{table}.csv").write_bytes(content)
    refused(tmp_path, capfd, flags | {table: f"{table}.csv"}, fragments)


@pytest.mark.parametrize("case", FLAG_CASES)
def test_check__refuses_bad_flags(tmp_path: Path, flags: dict, capfd, case: str) -> None:
    change, fragments = FLAG_CASES[case]
    (tmp_path / "folder.csv").mkdir()
    for name in ("g.xlsx", "g.pkl", "g.npy", "o.rds", "p.py", "genotypes", "o.bed"):
        (tmp_path / name).write_bytes(b"anything")
    if case == "unreadable file":
        if sys.platform != "linux":
            pytest.skip("needs a file that nobody can read")
        (tmp_path / "unreadable.csv").symlink_to("/proc/self/mem")
    (tmp_path / "phenotypes.csv").write_text(
        "id,y,sex,zero,holes\ni0,1.5,f,0,1\ni1,2.5,m,2,\ni2,3.5,f,1,1\n"
    )
    refused(tmp_path, capfd, flags | change, fragments)


@pytest.mark.parametrize("case", BINARY_CASES)
def test_check__refuses_bad_files(tmp_path: Path, flags: dict, capfd, case: str) -> None:
    name, content, fragments = BINARY_CASES[case]
    (tmp_path / name).write_bytes(content)
    refused(tmp_path, capfd, flags | {"genotypes": name}, fragments)


@pytest.mark.parametrize("case", VCF_CASES)
def test_check__refuses_bad_records(tmp_path: Path, flags: dict, capfd, case: str) -> None:
    text, fragments = VCF_CASES[case]
    (tmp_path / "g.vcf").write_text(VCF_HEAD + ("" if "place" in case else FINE) + text)
    refused(tmp_path, capfd, flags | {"genotypes": "g.vcf"}, fragments)


@pytest.mark.parametrize("case", SPOILT_CASES)
def test_check__refuses_spoilt_stores(tmp_path: Path, flags: dict, capfd, case: str) -> None:
    spoil, name, fragments = SPOILT_CASES[case]
    places = pd.DataFrame({"chromosome": "1", "position": [0] * 3, "counted": "G", "other": "A"})
    dosages = Dosages(CODES, IDS, ("m0", "m1", "m2"), places)
    for ending in ("bed", "zarr"):
        write_dosages(dosages, tmp_path / f"g.{ending}", "test")
    spoil(tmp_path)
    refused(tmp_path, capfd, flags | {"genotypes": name}, fragments)


def rows(individuals: int, markers: int) -> bytes:
    """A table of which every marker varies."""
    lines = [",".join(["id", *(f"m{j}" for j in range(markers))])]
    lines += [f"i{i}" + f",{i % 3}" * markers for i in range(individuals)]
    return "\n".join(lines).encode()


# Case: bytes of the genotypes, individuals and markers that come out of them.
GOOD_CASES = {
    "byte order mark": (b"\xef\xbb\xbf" + TEXTS["genotypes"].encode(), (6, 3)),
    "Windows lines": (TEXTS["genotypes"].replace("\n", "\r\n").encode(), (6, 3)),
    "quotes": (TEXTS["genotypes"].replace("i0", '"i0"').replace("m1", '"m1"').encode(), (6, 3)),
    "blanks": (TEXTS["genotypes"].replace("i0", " i0 ").encode(), (6, 3)),
    "no last line end": (TEXTS["genotypes"].rstrip().encode(), (6, 3)),
    "one marker": (rows(2, 1), (2, 1)),
    "many markers": (rows(2, 5000), (2, 5000)),
    "many individuals": (rows(9000, 1), (9000, 1)),
}


@pytest.mark.parametrize("case", GOOD_CASES)
def test_check_reads_what_is_unusual_but_right(tmp_path: Path, flags: dict, capfd, case) -> None:
    content, (individuals, markers) = GOOD_CASES[case]
    (tmp_path / "genotypes.csv").write_bytes(content)
    (tmp_path / "phenotypes.csv").write_text("id,y\ni0,1\ni1,2\n")
    words = ["check", "--genotypes", "genotypes.csv", "--phenotypes", "phenotypes.csv"]
    with contextlib.chdir(tmp_path):
        assert cli.main([*words, "--trait", "y"]) == 0
    printed = capfd.readouterr().out
    assert f"individuals genotyped: {individuals} " in printed
    assert f"markers: {markers};" in printed

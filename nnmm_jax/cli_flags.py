"""Flags for data and network, shared by the commands that have a model, and what they stand for.

JAX and the other heavy imports are inside the functions that need them.
"""

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnmm_jax.cli_quality import add_quality_flags, quality_of
from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.network.parse import (
    check_columns,
    parse_prior,
    parse_priors,
    parse_residual,
    parse_term,
)
from nnmm_jax.network.priors import GBLUP, PRIORS
from nnmm_jax.network.terms import Pedigree

if TYPE_CHECKING:
    import pandas as pd

    from nnmm_jax import Dataset, Network
    from nnmm_jax.data import Relationship

_FILES = (
    "genotypes", "omics", "phenotypes", "pedigree", "marker_groups", "connections", "marker_map",
    "node_map",
)  # fmt: skip
_CIS = ("marker_map", "node_map", "cis_window")


def add_data_flags(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the flags that say which tables to read; phenotypes and trait may be ``required``."""
    group = parser.add_argument_group("data")
    for name, value, needed, what in (
        ("genotypes", "G", False, "table of dosages 0..2, PLINK bed, VCF or zarr"),
        ("omics", "O", False, "one column a node, holes allowed"),
        (
            "phenotypes",
            "P",
            required,
            "the trait, fixed factors, covariates; records may repeat an id",
        ),
        ("trait", "NAME", required, "column of the phenotypes"),
        ("id-column", "NAME", False, "id column of all tables (default: the first column)"),
        ("pedigree", "FILE", False, "columns animal, sire, dam"),
        ("marker-groups", "FILE", False, "columns marker, group and, if groups differ, node"),
        ("connections", "FILE", False, "columns marker, node: each node sees its own markers only"),
        ("marker-map", "FILE", False, "with --cis-window: columns marker, chromosome, position"),
        (
            "node-map",
            "FILE",
            False,
            "with it too: columns node, chromosome, position (or start, end)",
        ),
        (
            "weights",
            "COLUMN",
            False,
            "of the phenotypes, with residual weights of the trait's records",
        ),
        ("omics-weights", "COLUMN", False, "of the phenotypes, with residual weights of the omics"),
    ):
        group.add_argument(f"--{name}", metavar=value, required=needed, help=what)
    group.add_argument(
        "--cis-window",
        type=float,
        metavar="W",
        help="each node sees the markers at most so far from it, in the unit of the two maps",
    )
    for name, is_inverse, what in (
        ("relationship", False, "matrix among individuals, square or id1, id2, value; repeatable"),
        ("inverse-relationship", True, "the same, given as its inverse; repeatable"),
    ):
        group.add_argument(
            f"--{name}",
            metavar="NAME=FILE",
            action="append",
            dest="relationships",
            type=_marked(is_inverse),
            help=what,
        )
    add_quality_flags(parser)


def _marked(is_inverse: bool) -> Callable[[str], tuple[str, bool]]:
    """Both flags fill one list: the first matrix may say who the individuals are."""
    return lambda text: (text, is_inverse)


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that describe a network."""
    group = parser.add_argument_group(
        "network",
        f"PRIOR is one of {', '.join(PRIORS)}, with hyperparameters as BayesC(pi=0.95, df=5); for "
        "groups of markers GROUP=PRIOR or GROUP=none, once for each group. TERM is pedigree, the "
        "name of a relationship or a column of the phenotypes, with hyperparameters as "
        "pen(share=0.1).",
    )
    group.add_argument(
        "--network",
        metavar="FILE.py:NAME",
        help="a Network of a Python file, for instance one with blocks, in place of these flags",
    )
    group.add_argument(
        "--activation",
        default="linear",
        metavar="NAME",
        help="linear (default), tanh, sigmoid, relu or leakyrelu; or FILE.py:FUNCTION, a function "
        "of the nodes in JAX, the priors of its parameters being the dict theta of the same file",
    )
    for name, action, value, what in (
        ("marker-prior", "append", "PRIOR", "marker effects on nodes (default: BayesC), or none"),
        ("node-prior", "store", "PRIOR", "node effects on the trait (default: RR-BLUP)"),
        ("skip-prior", "append", "PRIOR", "direct marker effects on the trait (default: none)"),
        ("random-omics", "append", "TERM", "random term of the omics; repeatable"),
        ("random-trait", "append", "TERM", "random term of the trait; repeatable"),
        (
            "residual-omics",
            "store",
            "KEYS",
            "prior of the omics' residual variances: df=5,scale=0.7",
        ),
        ("residual-trait", "store", "KEYS", "prior of the trait's residual variance"),
        ("fixed-omics", "store", "FORMULA", 'fixed terms of the omics, such as "~ sex + batch"'),
        ("fixed-trait", "store", "FORMULA", 'fixed terms of the trait, such as "~ sex"'),
    ):
        group.add_argument(f"--{name}", action=action, metavar=value, help=what)
    group.add_argument(
        "--latent", type=int, default=0, metavar="K", help="number of latent nodes (default: 0)"
    )
    group.add_argument(
        "--no-standardize",
        action="store_true",
        help="apply the activation to omics in their own units",
    )


def check_least(options: argparse.Namespace, **least: int) -> None:
    """Refuse numbers that are too small.

    Raises
    ------
    InputError
        If the value of a flag is below its limit.
    """
    for name, limit in least.items():
        value = getattr(options, name)
        if value is not None and value < limit:
            raise InputError(f"--{name} must be at least {limit}, got {value}")


def given_data(options: argparse.Namespace) -> list[str]:
    """Names of the flags of :func:`add_data_flags` that were given."""
    usual = argparse.ArgumentParser()
    add_data_flags(usual, required=False)
    return [
        name
        for name, default in vars(usual.parse_args([])).items()
        if getattr(options, name) != default
    ]


def network_of(options: argparse.Namespace) -> "Network":
    """Build the network that the flags describe; columns of random terms are not yet checked.

    Raises
    ------
    InputError
        If a flag cannot be used, or nothing explains the trait.
    """
    from nnmm_jax import Network

    if options.network is not None:
        network = _network_of_file(options)
        _check_sources(options, network)
        _check_matrices(network, relationship_files(options))
        return network
    given: dict[str, Any] = _activation(options.activation)
    if has_connections(options):
        given["connections"] = "map"
    for name in ("marker", "skip"):
        if (texts := getattr(options, f"{name}_prior")) is not None:
            given[f"{name}_prior"] = parse_priors(texts, flag=f"--{name}-prior")
    if options.node_prior is not None:
        given["node_prior"] = parse_prior(options.node_prior, flag="--node-prior")
    matrices = relationship_files(options)
    for layer in ("omics", "trait"):
        if (text := getattr(options, f"residual_{layer}")) is not None:
            given[f"residual_{layer}"] = parse_residual(text, flag=f"--residual-{layer}")
        given[f"random_{layer}"] = tuple(
            parse_term(text, flag=f"--random-{layer}", relationships=matrices)
            for text in getattr(options, f"random_{layer}") or ()
        )
    network = Network(
        latent=options.latent,
        fixed_omics=options.fixed_omics,
        fixed_trait=options.fixed_trait,
        standardize=not options.no_standardize,
        **given,
    )
    _check_sources(options, network)
    _check_matrices(network, matrices)
    return network


def _activation(text: str) -> dict[str, Any]:
    """Name of an activation, or a function of a file with its priors."""
    if ":" not in text:
        return {"activation": text}
    from nnmm_jax.network.code_files import function_of_file

    function, theta = function_of_file(text)
    return {"activation": function, "theta": theta}


def has_connections(options: argparse.Namespace) -> bool:
    """Whether flags say which marker acts on which node."""
    return options.connections is not None or options.cis_window is not None


def _network_of_file(options: argparse.Namespace) -> "Network":
    """Network of a Python file, which says all that the other flags could say."""
    from nnmm_jax import Network
    from nnmm_jax.network.code_files import object_of_file

    usual = argparse.ArgumentParser()
    add_network_flags(usual)
    for name, default in vars(usual.parse_args([])).items():
        if name != "network" and getattr(options, name) != default:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag}: the network is that of --network; say it there")
    module, name, what = object_of_file(options.network, "--network")
    network = getattr(module, name)
    if not isinstance(network, Network):
        raise InputError(f"{what}: expected a Network, found {type(network).__name__}")
    mapped = any(block.connections == "map" for block in network.all_blocks)
    if has_connections(options) and not mapped:
        raise InputError(
            "--connections: no part of the network uses them; say connections='map' in the network"
        )
    return network


def _check_used(options: argparse.Namespace, network: "Network") -> None:
    """A file that no term uses is a term forgotten; without genotypes it says who there is."""
    terms = (*network.omics_terms, *network.random_trait)
    pedigree = any(isinstance(term, Pedigree) for term in terms)
    if options.pedigree is not None and options.genotypes is not None and not pedigree:
        raise InputError(
            "--pedigree: no term uses it; add --random-trait pedigree or --random-omics pedigree"
        )
    blocks = network.all_blocks
    grouped = {*network.skip_priors, *(one for b in blocks for one in b.marker_priors)} - {""}
    if options.marker_groups is not None and not grouped:
        raise InputError(
            "--marker-groups: no prior uses them; give --marker-prior or --skip-prior GROUP=PRIOR, "
            "once for each group"
        )


def _check_sources(options: argparse.Namespace, network: "Network") -> None:
    has_layer = options.omics is not None or len(network.latent_names) > 0
    if not has_layer and network.skip_prior is None and not network.random_trait:
        raise InputError(
            "the middle layer is empty: give --omics, or --latent, or both; or fit the trait "
            "directly with --skip-prior or --random-trait"
        )
    if options.genotypes is not None:
        return
    if options.pedigree is None and not options.relationships:
        raise InputError("nobody is described: give --genotypes, --pedigree or --relationship")
    if has_layer and options.network is None and options.marker_prior is None:
        raise InputError(
            "there are no marker effects without --genotypes: say --marker-prior none, and for "
            "instance --random-omics pedigree"
        )


def _check_matrices(network: "Network", known: Collection[str]) -> None:
    of_nodes = [("--marker-prior", block.marker_priors) for block in network.all_blocks]
    for flag, priors in (*of_nodes, ("--skip-prior", network.skip_priors)):
        for prior in priors.values():
            name = prior.relationship if isinstance(prior, GBLUP) else None
            if name is not None and name not in known:
                raise InputError(
                    f"{flag}: expected the name of a relationship matrix ({shortlist(known)}), "
                    f"found {name!r}; give it with --relationship"
                )


def relationship_files(options: argparse.Namespace) -> dict[str, tuple[str, bool]]:
    """Files of relationship matrices by name, and whether they hold the inverse.

    Raises
    ------
    InputError
        If a name or a file is missing, or a name comes twice.
    """
    found: dict[str, tuple[str, bool]] = {}
    for text, is_inverse in options.relationships or ():
        flag = "--inverse-relationship" if is_inverse else "--relationship"
        name, _, file = (part.strip() for part in text.partition("="))
        if not name or not file:
            raise InputError(f"{flag}: expected NAME=FILE, found {text!r}; name the matrix")
        if name in found:
            raise InputError(f"{flag}: expected every name once, found {name!r} more than once")
        found[name] = (file, is_inverse)
    return found


def read_data(options: argparse.Namespace, network: "Network") -> "Dataset":
    """Read the tables, and check that they have the columns of the network's random terms.

    Raises
    ------
    InputError
        If a table cannot be used, or a random term is not there, or is two things.
    """
    dataset = read_tables(options)
    columns = [str(column) for column in dataset.covariates.columns]
    check_columns(network.omics_terms, columns, flag="--random-omics")
    check_columns(network.random_trait, columns, flag="--random-trait")
    _check_used(options, network)
    return dataset


def read_tables(options: argparse.Namespace) -> "Dataset":
    """Read the tables, whatever the network.

    Raises
    ------
    InputError
        If a table cannot be used.
    """
    from nnmm_jax import read_dataset
    from nnmm_jax.data import read_relationship

    connections = _connections(options)
    matrices: dict[str, str | Relationship] = {
        name: read_relationship(file, inverse=True, name=name) if is_inverse else file
        for name, (file, is_inverse) in relationship_files(options).items()
    }
    return read_dataset(
        options.genotypes,
        options.omics,
        options.phenotypes,
        options.trait,
        id_column=options.id_column,
        pedigree=options.pedigree,
        relationships=matrices,
        weights=options.weights,
        omics_weights=options.omics_weights,
        marker_groups=options.marker_groups,
        connections=connections,
        quality=quality_of(options),
        progress=not getattr(options, "quiet", False),
    )


def _connections(options: argparse.Namespace) -> "str | pd.DataFrame | None":
    """Table of connections, from its file or from the maps."""
    given = [name for name in _CIS if getattr(options, name) is not None]
    if not given:
        file: str | None = options.connections
        return file
    flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
    if options.connections is not None:
        raise InputError(
            f"--connections: expected this file or the maps of a cis window, found {flags} too; "
            "leave one out"
        )
    if len(given) < len(_CIS):
        raise InputError(
            "a cis window: expected --marker-map, --node-map and --cis-window together, found only "
            f"{flags}; add the others"
        )
    from nnmm_jax import cis_connections

    return cis_connections(options.marker_map, options.node_map, options.cis_window)


def files_of(options: argparse.Namespace) -> dict[str, object]:
    """Say which files were read, and the cis window of the maps, for the record of a run."""
    matrices = {name: file for name, (file, _) in relationship_files(options).items()}
    files = {name: getattr(options, name) for name in _FILES}
    code = options.network or (options.activation if ":" in options.activation else None)
    return files | {
        "folder": str(Path.cwd()),  # that names of files are relative to
        "id_column": options.id_column,
        "relationships": matrices,
        "cis_window": options.cis_window,
        "code": code,
    }

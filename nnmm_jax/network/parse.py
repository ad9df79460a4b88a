"""Priors and random terms as text, such as ``BayesC(pi=0.95)``, for the command line.

Values are Python literals, read with :func:`ast.literal_eval`; nothing is executed.
"""

import ast
import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

from nnmm_jax.errors import InputError, shortlist
from nnmm_jax.network.priors import Prior, Residual, prior_by_name
from nnmm_jax.network.terms import Group, Pedigree, RandomTerm, Relationship

Specification = TypeVar("Specification", bound=Prior | Residual)

NONE = "none"
PEDIGREE = "pedigree"


def parse_prior(text: str, *, flag: str) -> Prior:
    """Read a prior, with hyperparameters if need be.

    Parameters
    ----------
    text : str
        ``BayesC`` or ``BayesC(pi=0.95, df=5)``.
    flag : str
        Where it was given, for messages.

    Raises
    ------
    InputError
        If the prior is unknown, has no such hyperparameter, or cannot take the value.

    Examples
    --------
    >>> parse_prior("BayesR(mixture=(0, 0.01, 0.1, 1))", flag="--marker-prior").mixture
    (0.0, 0.01, 0.1, 1.0)
    """
    name, arguments = _split(text, flag)
    try:
        prior = prior_by_name(name)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from error
    return _build(type(prior), arguments, flag)


def parse_priors(texts: Sequence[str], *, flag: str) -> Prior | dict[str, Prior | None] | None:
    """Read the prior of all markers, or one for each group of markers.

    Parameters
    ----------
    texts : sequence of str
        One prior; ``none``; or ``GROUP=PRIOR`` for every group, ``GROUP=none`` for a group whose
        markers have no effect.
    flag : str
        Where they were given, for messages.

    Raises
    ------
    InputError
        As :func:`parse_prior`; if there are several priors without groups, a group comes twice, or
        no group has a prior.

    Examples
    --------
    >>> priors = parse_priors(["cis=BayesC(pi=0.5)", "trans=RR-BLUP"], flag="--marker-prior")
    >>> priors["cis"].pi, priors["trans"].name
    (0.5, 'RR-BLUP')
    """
    # An equals sign within parentheses belongs to a hyperparameter.
    grouped = ["=" in text.split("(", 1)[0] for text in texts]
    if not any(grouped) and len(texts) == 1:
        return _prior_or_none(texts[0], flag)
    if not all(grouped):
        raise InputError(
            f"{flag}: expected one prior, or GROUP=PRIOR for every group of markers, found "
            f"{shortlist(texts)}"
        )
    priors: dict[str, Prior | None] = {}
    for text in texts:
        group, prior = (part.strip() for part in text.split("=", 1))
        if not group or group in priors:
            raise InputError(f"{flag}: expected every group once with its name, found {text!r}")
        priors[group] = _prior_or_none(prior, f"{flag} {group}")
    if all(prior is None for prior in priors.values()):
        raise InputError(
            f"{flag}: expected a prior for at least one group of markers, found none for "
            f"{shortlist(priors)}; say {NONE}, without groups"
        )
    return priors


def _prior_or_none(text: str, flag: str) -> Prior | None:
    return None if text.strip().lower() == NONE else parse_prior(text, flag=flag)


def parse_residual(text: str, *, flag: str) -> Residual:
    """Read the prior of a residual variance.

    Parameters
    ----------
    text : str
        Hyperparameters, such as ``df=5, scale=0.7``.
    flag : str
        Where it was given, for messages.

    Raises
    ------
    InputError
        If there is no such hyperparameter, or it cannot have the value.

    Examples
    --------
    >>> parse_residual("df=5, scale=0.7", flag="--residual-trait").scale
    0.7
    """
    return _build(Residual, text, flag)


def parse_term(text: str, *, flag: str, relationships: Collection[str] = ()) -> RandomTerm:
    """Read a random term.

    Parameters
    ----------
    text : str
        ``pedigree``, the name of a relationship matrix, or a column of the phenotypes, with
        hyperparameters if need be: ``pen(share=0.1)``.
    flag : str
        Where it was given, for messages.
    relationships : collection of str
        Names of the relationship matrices.

    Raises
    ------
    InputError
        If there is no such hyperparameter, it cannot have the value, or the name is not unique.

    Examples
    --------
    >>> parse_term("pedigree(variance=20)", flag="--random-trait").variance
    20.0
    >>> parse_term("pen", flag="--random-trait").label
    'pen'
    """
    name, arguments = _split(text, flag)
    if name == PEDIGREE and name in relationships:
        raise InputError(
            f"{flag}: {name!r} is the pedigree and the name of a relationship matrix; give the "
            "matrix another name"
        )
    if name == PEDIGREE:
        return _build(Pedigree, arguments, flag)
    if name in relationships:
        return _build(Relationship, arguments, flag, name)
    return _build(Group, arguments, flag, name)


def check_columns(terms: Sequence[RandomTerm], columns: Collection[str], *, flag: str) -> None:
    """Check that every random term is there, and is one thing only, when the columns are known.

    Parameters
    ----------
    terms : sequence of RandomTerm
        As :func:`parse_term` read them.
    columns : collection of str
        Of the phenotypes, without trait and weights.
    flag : str
        Where the terms were given, for messages.

    Raises
    ------
    InputError
        If a column is unknown, or a pedigree or relationship matrix has the name of a column.

    Examples
    --------
    >>> check_columns([parse_term("pen", flag="--random-trait")], ["pen"], flag="--random-trait")
    """
    for term in terms:
        if isinstance(term, Group) and term.column not in (*columns, "id"):
            raise InputError(
                f"{flag}: expected pedigree, the name of a relationship matrix or a column of the "
                f"phenotypes ({shortlist(columns)}), found {term.column!r}"
            )
        if not isinstance(term, Group) and term.label in columns:
            what = "the pedigree" if isinstance(term, Pedigree) else "a relationship matrix"
            raise InputError(
                f"{flag}: {term.label!r} is {what} and a column of the phenotypes; rename one of "
                "them"
            )


def _split(text: str, flag: str) -> tuple[str, str]:
    """Name, and what stands in parentheses behind it."""
    name, bracket, rest = text.strip().partition("(")
    if not name.strip() or (bracket and not rest.endswith(")")):
        raise InputError(f"{flag}: expected NAME or NAME(KEY=VALUE, ...), found {text!r}")
    return name.strip(), rest.removesuffix(")")


def _build(made: type[Specification], arguments: str, flag: str, *named: str) -> Specification:
    """Make a specification with these hyperparameters, of what is named."""
    hints = get_type_hints(made)
    known = [field.name for field in dataclasses.fields(made) if field.kw_only]
    name = getattr(made, "name", "the residual")
    values: dict[str, Any] = {}
    for key, node in _keywords(arguments, flag).items():
        if key not in known:
            raise InputError(
                f"{flag}: {name} has the hyperparameters {', '.join(known)}; found {key!r}"
            )
        values[key] = _value(node, hints[key], f"{flag}: {name}, {key}")
    try:
        return made(*named, **values)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from error


def _keywords(arguments: str, flag: str) -> Mapping[str, ast.expr]:
    """Keys and values of a list of arguments, not yet evaluated."""
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        call = None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
        found = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        if len(found) == len(call.keywords):
            return found
    raise InputError(
        f"{flag}: expected KEY=VALUE, KEY=VALUE, ..., every key once, found {arguments!r}"
    )


def _value(node: ast.expr, hint: object, what: str) -> object:
    """Value of a hyperparameter, of the type that it must have."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    is_number = float in kinds
    is_text = str in kinds or get_origin(hint) is Literal
    expected = "a number" if is_number else "a name" if is_text else "numbers such as (1, 2)"
    try:
        # A name needs no quotation marks, of which the shell would ask for more.
        value = node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        value = ...
    if value is None and type(None) in kinds:
        return None
    if is_number and _finite(value):
        return float(value)
    if is_text and isinstance(value, str):
        return value
    if isinstance(value, tuple | list) and not is_number and not is_text:
        if all(_finite(one) for one in value):
            return tuple(float(one) for one in value)
    raise InputError(f"{what}: expected {expected}, found {ast.unparse(node)}")


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

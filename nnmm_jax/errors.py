"""The one exception for wrong input, how its messages list names, and the end by a signal."""

from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was expected, what was found (file, column, id) and what to do.
    The command line prints it as ``nnmm: error: ...`` and leaves with exit code 2.

    Examples
    --------
    >>> from nnmm_jax.errors import InputError
    >>> try:
    ...     raise InputError("phenotypes: expected the trait 'yield', found no such column")
    ... except ValueError as error:
    ...     print(error)
    phenotypes: expected the trait 'yield', found no such column
    """


class RunInterrupted(KeyboardInterrupt):
    """A signal ended a run after its state was written.

    Attributes
    ----------
    exit_code : int
        What a process that the signal ends leaves with: 130 after Ctrl-C, 143 after SIGTERM.

    Examples
    --------
    >>> RunInterrupted("stopped by SIGTERM", 15).exit_code
    143
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def shortlist(names: Iterable[object], limit: int = 5) -> str:
    """Names for a message: the first few, quoted, and how many there are when some are left out.

    Parameters
    ----------
    names
        What to list, in order.
    limit
        The most that are written out.

    Returns
    -------
    str
        ``'a', 'b'`` or ``'a', 'b', ... (7 in all)``; ``none`` when there are no names.

    Examples
    --------
    >>> shortlist(["a", "b"])
    "'a', 'b'"
    >>> shortlist(range(7), limit=2)
    "'0', '1', ... (7 in all)"
    """
    everything = [str(name) for name in names]
    if not everything:
        return "none"
    text = ", ".join(f"'{name}'" for name in everything[:limit])
    return text if len(everything) <= limit else f"{text}, ... ({len(everything)} in all)"

"""Figure of the time of an iteration by size."""

import pandas as pd
from matplotlib.figure import Figure


def growth_figure(table: pd.DataFrame) -> Figure:
    """Time of an iteration against each size, both axes logarithmic, beside a linear growth.

    Parameters
    ----------
    table : DataFrame
        Rows of :func:`nnmm_jax.reports.benchmark.growth`.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("omics", 10, 2.0), ("omics", 20, 4.0)]
    >>> figure = growth_figure(pd.DataFrame(rows, columns=["size", "value", "iteration_ms"]))
    >>> len(figure.axes)
    1
    """
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for number, (size, part) in enumerate(table.groupby("size", sort=False)):
        times = part["value"] / part["value"].iloc[0]
        colour = f"C{number}"
        axes.plot(times, part["iteration_ms"], "o-", color=colour, label=size)
        axes.plot(times, part["iteration_ms"].iloc[0] * times, ":", color=colour, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("times the smallest size (dotted: linear growth)")
    axes.set_ylabel("milliseconds an iteration")
    axes.legend(frameon=False)
    return figure

"""Notebooks run from top to bottom on small data, without outputs, local paths or dead links.

Cells are executed in this process, which has JAX and the compiled programs already: they have no
magic, so that a kernel would do the same but for showing pictures, which is tested by itself.
"""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"))
QUICKSTART = FOLDER / "01_quickstart.ipynb"
REAL_DATA = ROOT.parent / "shared" / "data" / "arabidopsis_ril"

# One size for all, so that programs compiled for one notebook are found again by others.
SMALL = {
    "INDIVIDUALS": 60, "MARKERS": 60, "OMICS": 3,
    "WARMUP": 25, "SAMPLES": 50, "CHAINS": 2, "FOLDS": 2,
    # of what is done for each, a part that has all kinds
    "PATTERNS": ("half",), "ACTIVATIONS": ("tanh",), "HIDE": (False,), "CONNECTED": ("partial",),
    "PRIORS": ("GBLUP", "RR-BLUP", "BayesC"),
    "VALIDATED": ("network, metabolites measured",),
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings(
    "ignore:Estimated shape parameter of Pareto",  # chains are too short for their diagnostics
)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def shrink(book):
    """Replace the values of the settings cell; those without a small value stay."""
    (cell,) = (one for one in book.cells if "settings" in one.metadata.get("tags", []))
    values = {}
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign), "the settings cell only assigns"
        (target,) = statement.targets
        given = ast.literal_eval(statement.value)
        several = isinstance(target, ast.Tuple)
        names = [name.id for name in (target.elts if several else [target])]
        for name, value in zip(names, given if several else [given], strict=True):
            assert not isinstance(value, tuple) or set(SMALL[name]) <= set(value)
            values[name] = SMALL.get(name, value)
    assert set(values) & set(SMALL), "nothing in the settings cell can be made small"
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    return book


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_notebook_is_tidy(path):
    book = read(path)
    nbformat.validate(book)
    assert re.match(r"# \w.*\n", book.cells[0].source), "no title"
    assert "**Question.**" in book.cells[0].source
    for cell in code_cells(book):
        assert cell.outputs == [], "outputs are not stripped"
        assert cell.execution_count is None, "outputs are not stripped"
        assert not re.search(r"^\s*[%!]", cell.source, re.MULTILINE), "magic"
    text = "\n".join(cell.source for cell in book.cells)
    assert not re.search(r"(?<![\w.~/:<])/(?:home|Users|tmp|root|work|mnt)/|[A-Z]:\\", text)
    shrink(book)


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)#]+)", text)
    for target in targets:
        assert target.startswith("https://") or (FOLDER / target).is_file(), target


def test_readme_links_to_every_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in BOOKS:
        assert f"](notebooks/{path.name})" in readme


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    book = shrink(read(path))
    monkeypatch.chdir(tmp_path)
    if not any(".plan(" in cell.source for cell in code_cells(book)):
        # compiling a program to know its memory is half of the time of some fits
        plan = SimpleNamespace(check=lambda: None)
        monkeypatch.setattr("nnmm_jax.api.plan_memory", lambda *_, **__: plan)
    if "NNMM_DATA" in "".join(cell.source for cell in book.cells):
        if not REAL_DATA.is_dir():
            pytest.skip(f"the data set {REAL_DATA.name} is not beside this checkout")
        monkeypatch.setenv("NNMM_DATA", str(REAL_DATA))
    names = {"__name__": "__main__"}
    with mpl.rc_context({"backend": "Agg"}):
        for i, cell in enumerate(code_cells(book)):
            run_cell(cell.source, names, f"{path.name}, code cell {i + 1}")
        plt.close("all")


def run_cell(source, names, where):
    """Execute a cell, and show the value of its last line as Jupyter would."""
    tree = ast.parse(source, where)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)
    if last is None:
        return
    value = eval(compile(ast.Expression(last.value), where, "eval"), names)
    for show in ("_repr_png_", "_repr_html_"):
        if hasattr(value, show):
            getattr(value, show)()


def jupyter(book, folder, monkeypatch):
    """Pictures that a notebook shows in Jupyter."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in code_cells(book) for output in cell.outputs]
    return [output for output in outputs if "image/png" in output.get("data", {})]


def test_jupyter_shows_figures_without_pyplot(tmp_path, monkeypatch):
    source = "from nnmm_jax.reports.canvas import notice\nnotice('seen')"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    assert len(jupyter(book, tmp_path, monkeypatch)) == 1


@pytest.mark.statistical
def test_jupyter_runs_the_quickstart_and_shows_its_figures(tmp_path, monkeypatch):
    pictures = jupyter(shrink(read(QUICKSTART)), tmp_path, monkeypatch)
    assert len(pictures) == 4
    assert (tmp_path / "quickstart" / "posterior.nc").is_file()

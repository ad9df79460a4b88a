from nnmm_jax.reports.canvas import sheet


def test_notebooks_show_a_sheet_without_pyplot():
    picture = sheet(2.0, 1.0)._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20], "big") == 200  # pixels, at 100 an inch

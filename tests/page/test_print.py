"""Printing: one sheet with the picture alone, upright and from its front, whatever was seen of it."""

import io

import numpy
import pypdfium2
import pytest
from conftest import settled
from PIL import Image

# Widths and heights in millimetres: a sheet of A4, and the paper of a small photo printer.
A4, PHOTO = (210, 297), (100, 150)
# The film's edge as a share of the picture's side, and how far a sticker lies within it; see polaroid.css.
EDGE, INSET = 0.055, 0.09


def printed(page, millimetres):
    """The words on the only sheet, and what is within the picture's edges, as pixels."""
    width, height = (f"{side}mm" for side in millimetres)
    sheets = pypdfium2.PdfDocument(page.pdf(width=width, height=height))
    assert len(sheets) == 1
    sheet = numpy.asarray(sheets[0].render(scale=4).to_pil().convert("RGB"))
    rows, columns = (numpy.flatnonzero((sheet < 250).any(axis=2).any(axis=axis)) for axis in (1, 0))
    top, left, right, bottom = rows[0], columns[0], columns[-1] + 1, rows[-1] + 1
    side = (right - left) / (1 + 2 * EDGE)
    assert left > 10 and top > 10 and right < sheet.shape[1] - 10 and bottom < sheet.shape[0] - 10, "nothing is cut off"
    assert abs((left + right) / 2 - sheet.shape[1] / 2) < 0.02 * sheet.shape[1], "it lies in the middle"
    assert right - left > 0.6 * sheet.shape[1], "it uses the sheet"
    assert abs((bottom - top) / side - (1 + EDGE + 0.17)) < 0.02, "film and caption, and nothing beside them"
    x, y = left + EDGE * side, top + EDGE * side
    return sheets[0].get_textpage().get_text_range().strip(), sheet[round(y) : round(y + side), round(x) : round(x + side)]


def differs(shown, picture, **flip):
    """The mean difference of a pixel's value, of 255, where `picture` is opaque."""
    inset = round(INSET * shown.shape[0])
    shown = Image.fromarray(shown[inset:-inset, inset:-inset]).resize(picture.size, Image.Resampling.BOX)
    wanted = numpy.asarray(picture).astype(float)
    if flip:
        wanted = numpy.flip(wanted, **flip)
    inside = wanted[..., 3] == 255
    assert inside.sum() > 400
    return numpy.abs(numpy.asarray(shown, dtype=float) - wanted[..., :3])[inside].mean()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_print_is_one_sheet_with_the_picture_alone(visit, server, scheme):
    visitor = visit(server, color_scheme=scheme)
    page = visitor.page
    page.evaluate("() => { window.calls = []; window.print = () => window.calls.push(document.querySelector('.viewing') ? 'viewer' : 'stage'); }")
    visitor.make("a yellow fish")
    visitor.finished()
    picture = Image.open(io.BytesIO(page.request.get(f"{server}/jobs/{visitor.job()['id']}/pictures/0").body())).convert("RGBA")
    page.click("#actions [data-action=turn]")
    settled(page)
    page.click("#actions [data-action=print]")
    assert page.evaluate("window.calls") == ["stage"]
    # At once, as the browser does: while the film still turns round.
    words, shown = printed(page, A4)
    assert words == "a yellow fish"
    assert differs(shown, picture) < 16 < differs(shown, picture, axis=0)

    page.click("[data-view=gallery]")
    page.wait_for_selector(".mini.ready")
    page.click("#prints li:first-child button")
    page.wait_for_selector("#viewer[open]")
    page.click("#viewer [data-action=turn]")
    settled(page)
    page.click("#viewer [data-action=print]")
    assert page.evaluate("window.calls") == ["stage", "viewer"]
    words, shown = printed(page, PHOTO)
    assert words == "a yellow fish"
    assert differs(shown, picture) < 16

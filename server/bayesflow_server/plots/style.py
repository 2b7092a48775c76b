"""How every plot looks, and the one way a picture is made: Agg, no pyplot, no display, bytes out.

A picture has at most 256 colours, which keeps it a quarter of the size: fewer where it is crowded.

The palette is Okabe and Ito's, which stays apart for colour-blind readers; each colour comes with a
shape of its own. Text from users and models is drawn as it is, on one line, cut, never as formulae.
"""

# matplotlib annotates its methods in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import io
import threading
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from bayesflow_server.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "LIGHT",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILLION",
    "has_matplotlib",
    "picture",
    "plain",
    "require_matplotlib",
]

BLUE: Final = "#0072B2"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
ORANGE: Final = "#E69F00"
VERMILLION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
BLACK: Final = "#000000"
GREY: Final = "#7F7F7F"
LIGHT: Final = "#D9D9D9"

_WIDTH_INCHES: Final = 8.0
_DPI: Final = 150
_FONT: Final = "DejaVu Sans"  # comes with matplotlib
_COLOURS: Final = (256, 64, 24)
_MOST_BYTES: Final = 200_000
_CUT: Final = "…"
_MISSING: Final = "\N{WHITE SQUARE}"
# matplotlib's settings belong to the process, so one picture at a time.
_DRAWING: Final = threading.Lock()


def has_matplotlib() -> bool:
    """Whether plots can be drawn here; imports nothing."""
    return find_spec("matplotlib") is not None


def require_matplotlib() -> None:
    """Refuses where plots cannot be drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    if not has_matplotlib():
        raise InputError(
            "Plots need matplotlib: run pip install 'bayesflow-mcp[plot]' where the server is "
            "installed and start it again; get_pool gives the numbers without it."
        )


def picture(draw: Callable[["Figure"], None], height: float = 5.0) -> bytes:
    """The PNG of what `draw` puts on an empty figure, 1200 pixels wide.

    The same drawing gives the same bytes.

    Args:
        draw: Adds axes and what is on them.
        height: Of the figure, in units of 150 pixels.
    """
    # Imported here: matplotlib (and NumPy and Pillow with it) belongs to an extra and takes long.
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    full = png = io.BytesIO()
    with _DRAWING, mpl.rc_context(_style()):
        figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)  # makes itself the figure's own
        draw(figure)
        figure.savefig(full, format="png", pil_kwargs={"compress_level": 0})
    image = Image.open(full).convert("RGB")
    for colours in _COLOURS:
        png = io.BytesIO()
        _reduced(image, colours).save(png, "PNG", optimize=True)
        if png.tell() <= _MOST_BYTES:
            break
    return png.getvalue()


def _reduced(image: "Image", colours: int) -> "Image":
    """The image in its most frequent colours, every other pixel in the nearest of them.

    Pillow's own reductions turn white to grey.
    """
    import numpy as np
    from PIL import Image

    rgb = np.asarray(image, dtype=np.int64)
    packed = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    found, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    kept = found[np.argsort(-counts, kind="stable")[:colours]]
    # |x - y|² less |x|², which is the same for every y.
    every, few = _channels(found), _channels(kept)
    nearest = np.argmin((few**2).sum(axis=1) - 2 * every @ few.T, axis=1).astype(np.uint8)
    reduced = Image.fromarray(nearest[inverse].reshape(packed.shape))
    reduced.putpalette(few.astype(np.uint8).tobytes())
    return reduced


def _channels(packed: "NDArray[np.int64]") -> "NDArray[np.float64]":
    import numpy as np

    return np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(float)


def _style() -> "dict[RcKeyType, object]":
    return {
        "font.family": [_FONT],
        "font.size": 9.5,
        "text.usetex": False,
        "axes.titlesize": 11.5,
        "axes.titleweight": "normal",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.alpha": 0.3,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "savefig.bbox": None,
        "savefig.facecolor": "white",
        "figure.constrained_layout.w_pad": 0.09,
        "figure.constrained_layout.h_pad": 0.07,
    }


def plain(text: str, most: int) -> str:
    """Text of a user or model on one line, of glyphs there are, as wide as `most` letters at most.

    Draw it with `parse_math=False`: a `$` in it is a dollar.
    """
    given = unicodedata.normalize("NFC", text[: 4 * most])
    # Marks without a letter of their own pile up, out of the line.
    letters = (one for one in given if not unicodedata.category(one).startswith("M"))
    line = " ".join("".join(one if one.isprintable() else " " for one in letters).split())
    widths = _widths()
    drawn = "".join(one if ord(one) in widths else _MISSING for one in line)
    ends = list(accumulate(widths[ord(one)] for one in drawn))
    if len(text) <= 4 * most and len(drawn) <= most and not (ends and ends[-1] > most):
        return drawn
    room = most - widths[ord(_CUT)]
    fitting = sum(end <= room for end in ends[: most - 1])
    return drawn[:fitting].rstrip() + _CUT


@cache
def _widths() -> dict[int, float]:
    """What the font can draw, each glyph's width over that of an `a`.

    A glyph that it lacks would be a warning.
    """
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    font = FT2Font(findfont(_FONT))
    font.set_size(72, 72)
    mean = font.load_char(ord("a")).linearHoriAdvance
    return {code: font.load_char(code).linearHoriAdvance / mean for code in font.get_charmap()}

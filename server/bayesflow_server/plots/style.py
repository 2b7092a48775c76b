"""How every plot looks, and the one way a picture is made: Agg, no pyplot, no display, bytes out.

A picture has at most 256 colours, which keeps it a quarter of the size.

The palette is Okabe and Ito's, which stays apart for colour-blind readers; each colour comes with a
shape of its own. Text from users and models is drawn as it is, on one line, cut, never as formulae.
"""

# matplotlib annotates its methods in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import io
import threading
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, cast

from bayesflow_server.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType
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
    # Imported here: matplotlib (with Pillow) belongs to an extra and takes most of a second.
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    full, png = io.BytesIO(), io.BytesIO()
    with _DRAWING, mpl.rc_context(_style()):
        figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)  # makes itself the figure's own
        draw(figure)
        figure.savefig(full, format="png")
    _reduced(Image.open(full).convert("RGB")).save(png, "PNG", optimize=True)
    return png.getvalue()


def _reduced(image: "Image") -> "Image":
    """The image in its 256 most frequent colours: white stays white, edges stay smooth."""
    from PIL import Image

    pixels = image.width * image.height
    counted = cast("list[tuple[int, tuple[int, int, int]]]", image.getcolors(pixels))
    frequent = sorted(counted, key=lambda one: (-one[0], one[1]))[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in frequent for part in colour])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


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
    """Text of a user or model on one line of at most `most` characters that the font can draw.

    Draw it with `parse_math=False`: a `$` in it is a dollar.
    """
    given = text[: 4 * most]
    spaced = "".join(one if one.isprintable() else " " for one in given)
    line = " ".join(spaced.split())
    known = _glyphs()
    drawn = "".join(one if ord(one) in known else _MISSING for one in line)
    if len(drawn) <= most and len(given) == len(text):
        return drawn
    return drawn[: most - 1].rstrip() + "…"


@cache
def _glyphs() -> frozenset[int]:
    """What the font can draw; a glyph it lacks would be a warning for each."""
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont(_FONT)).get_charmap())

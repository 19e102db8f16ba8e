"""A figure as a part of a page: in the page's colours and font, and allowed by its policy."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib.backend_bases import FigureCanvasBase, GraphicsContextBase, RendererBase
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform, Transform

from jaxalign.errors import printable

from .look import COLOURS, DPI, TITLE, styled

_ROLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_LETTERS: dict[Any, str] = {
    Path.MOVETO: "M",
    Path.LINETO: "L",
    Path.CURVE3: "Q",
    Path.CURVE4: "C",
    Path.CLOSEPOLY: "Z",
}
_UNPAINTED = ' fill="none"'
_ANCHORS = {"left": ("start", 0.0), "center": ("middle", 0.5), "right": ("end", 1.0)}


def to_svg(figure: Figure) -> Markup:
    """Inline SVG, the same for the same figure, whose title is left to the page as its caption.

    matplotlib's own SVG has style attributes, which a content security policy refuses, references to ids,
    which must be unique on a page, and fixed colours, which do not follow a reader into the dark.
    """
    with styled():
        for heading in (text for text in figure.texts if text.get_gid() == TITLE):
            heading.set_visible(False)
        renderer = _Canvas(figure).get_renderer()
        figure.draw(renderer)
    width, height = (round(side) for side in renderer.get_canvas_width_height())
    label = escape(printable(str(figure.get_label())))
    start = f'<svg width="{width}" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
    return Markup("".join((start, *renderer.parts, "</svg>")))


class _Canvas(FigureCanvasBase):
    def get_renderer(self) -> "_Renderer":
        return _Renderer(self.figure)


class _Renderer(RendererBase):
    """Paths and texts as elements without ids, styles and clipping; coordinates in tenths of a pixel."""

    def __init__(self, figure: Figure):
        super().__init__()
        self.parts: list[str] = []
        self._figure = figure
        self._hint = ""

    def get_canvas_width_height(self) -> tuple[float, float]:
        return tuple(self._figure.get_size_inches() * DPI)

    def points_to_pixels(self, points: Any) -> Any:
        return points * DPI / 72

    def open_group(self, s: str, gid: str | None = None) -> None:
        self._hint = gid or ""  # what is to be read of the next path under the pointer

    def close_group(self, s: str) -> None:
        self._hint = ""

    def draw_path(
        self, gc: GraphicsContextBase, path: Path, transform: Transform, rgbFace: Any = None
    ) -> None:
        box = gc.get_clip_rectangle()
        clip = box.extents if box is not None and rgbFace is None else None
        data = self._data(
            path.iter_segments(transform, remove_nans=True, clip=clip, simplify=path.should_simplify)
        )
        paint = _fill(gc, rgbFace) + self._stroke(gc)
        if data and paint != _UNPAINTED:
            hint = f"><title>{escape(printable(self._hint))}</title></path>" if self._hint else "/>"
            self.parts.append(f'<path d="{data}"{paint}{hint}')

    def draw_markers(
        self,
        gc: GraphicsContextBase,
        marker_path: Path,
        marker_trans: Transform,
        path: Path,
        trans: Transform,
        rgbFace: Any = None,
    ) -> None:
        """Dots, which are lines of no length whose round ends are seen, or other shapes."""
        if marker_path.codes is None or Path.CURVE4 not in list(marker_path.codes):  # type: ignore
            shape = marker_path.transformed(marker_trans)
            places = trans.transform(path.vertices)
            every = Path.make_compound_path(*(Path(shape.vertices + at, shape.codes) for at in places))
            return self.draw_path(gc, every, IdentityTransform(), rgbFace)
        height, size = self.get_canvas_width_height()[1], marker_path.get_extents(marker_trans).width
        data = "".join(f"M{x:.1f},{height - y:.1f}h0" for x, y in np.asarray(trans.transform(path.vertices)))
        paint = f'stroke="{_colour(rgbFace)}" stroke-width="{size:.3g}" stroke-linecap="round"'
        self.parts.append(f'<path d="{data}" fill="none" {paint}{_opacity("stroke", gc, rgbFace)}/>')

    def _data(self, segments: Iterable[tuple[np.ndarray, Any]]) -> str:
        height, at, data = self.get_canvas_width_height()[1], ("", ""), []
        for points, code in segments:
            if code == Path.CLOSEPOLY:
                data.append("Z")
                continue
            places = [(f"{x:.1f}", f"{height - y:.1f}") for x, y in np.reshape(points, (-1, 2))]
            x, y = places[-1]
            if code == Path.LINETO and (x == at[0] or y == at[1]):
                data.append(f"V{y}" if x == at[0] else f"H{x}")
            else:
                data.append(_LETTERS[code] + " ".join(map(",".join, places)))
            at = x, y
        return "".join(data)

    def _stroke(self, gc: GraphicsContextBase) -> str:
        width, rgba = self.points_to_pixels(gc.get_linewidth()), gc.get_rgb()
        if not width or not rgba[3]:
            return ""
        said = f' stroke="{_colour(rgba)}" stroke-width="{width:.3g}"{_opacity("stroke", gc, rgba)}'
        dashes = gc.get_dashes()[1]
        if dashes is not None:
            lengths = (f"{self.points_to_pixels(length):.3g}" for length in np.atleast_1d(np.asarray(dashes)))
            said += f' stroke-dasharray="{" ".join(lengths)}"'
        return said + (' stroke-linecap="round"' if gc.get_capstyle() == "round" else "")

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: Any,
        angle: float,
        ismath: Any = False,
        mtext: Any = None,
    ) -> None:
        anchor, share = _ANCHORS[mtext.get_horizontalalignment() if mtext else "left"]
        along = share * self.get_text_width_height_descent(s, prop, False)[0]  # the page's font is another
        x, y = x + along * np.cos(np.radians(angle)), y - along * np.sin(np.radians(angle))
        turned = f' transform="rotate({-angle:g} {x:.1f} {y:.1f})"' if angle else ""
        size = self.points_to_pixels(prop.get_size_in_points())
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.3g}" text-anchor="{anchor}"'
            f' fill="{_colour(gc.get_rgb())}"{turned}>{escape(printable(s))}</text>'
        )


def _fill(gc: GraphicsContextBase, rgba: Any) -> str:
    if rgba is None or (len(rgba) == 4 and not rgba[3]):
        return _UNPAINTED
    return f' fill="{_colour(rgba)}"{_opacity("fill", gc, rgba)}'


def _colour(rgba: Any) -> str:
    colour = str(to_hex(rgba[:3]))
    return _ROLES.get(colour, colour)


def _opacity(of: str, gc: GraphicsContextBase, rgba: Any) -> str:
    alpha = gc.get_alpha() if gc.get_forced_alpha() else rgba[3] if len(rgba) == 4 else 1.0
    return "" if alpha == 1 else f' {of}-opacity="{alpha:.3g}"'

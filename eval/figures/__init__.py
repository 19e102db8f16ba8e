"""One drawing function for each figure: as PNG on disk, and as a part of the page in its colours."""

from .bands import draw_sweeps as draw_sweeps
from .kinds import figures_of as figures_of
from .look import drawable as drawable
from .look import save as save
from .scatter import draw_measured as draw_measured
from .svg import to_svg as to_svg

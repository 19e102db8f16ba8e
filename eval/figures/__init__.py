"""One drawing function for each figure: as PNG on disk, and as a part of the page in its colours."""

from .bands import draw_growth as draw_growth
from .bands import draw_sweeps as draw_sweeps
from .curves import draw_losses as draw_losses
from .curves import draw_precision as draw_precision
from .curves import draw_shots as draw_shots
from .curves import draw_steps as draw_steps
from .histograms import draw_histograms as draw_histograms
from .kinds import figures_of as figures_of
from .look import drawable as drawable
from .look import save as save
from .measured import draw_measured as draw_measured
from .spectra import draw_spectra as draw_spectra
from .svg import to_svg as to_svg
from .views import draw_views as draw_views

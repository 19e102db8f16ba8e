"""Pictures of runs as PNG files, by matplotlib without a display."""

from .bands import draw_growth as draw_growth
from .bands import draw_sweeps as draw_sweeps
from .figures import save as save
from .histograms import draw_class_histograms as draw_class_histograms
from .histograms import draw_dogs_cats as draw_dogs_cats
from .histograms import draw_modality_histograms as draw_modality_histograms
from .histograms import draw_parts as draw_parts
from .spectra import draw_spectra as draw_spectra
from .views import draw_views as draw_views

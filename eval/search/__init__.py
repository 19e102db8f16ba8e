"""Search of one's own images by images and texts."""

from .library import Library as Library
from .library import find_library as find_library
from .queries import Query as Query
from .queries import QueryImage as QueryImage
from .queries import read_found_files as read_found_files
from .queries import read_query_image as read_query_image
from .ranking import Embeds as Embeds
from .ranking import Hit as Hit
from .ranking import Term as Term
from .ranking import rank as rank
from .ranking import score_images as score_images

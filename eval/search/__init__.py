"""Search of one's own images by an image, before and after a method that changes their embeddings."""

from .compare import BeforeAfter as BeforeAfter
from .compare import Hit as Hit
from .compare import compare as compare
from .library import Library as Library
from .library import find_library as find_library

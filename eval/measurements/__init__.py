"""Measurements: a protocol with its data set, its features out of the store, and its run on disk.

Each command is one of them, and `reproduce` is many. A measurement that has a run is not computed again, and
no picture is embedded for it.
"""

from .workspace import Workspace as Workspace

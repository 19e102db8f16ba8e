"""Protocols: pure functions from features and labels to a `Result`, numbers for a table and arrays for plots.

Nothing here reads, writes or prints; `measurements` puts data sets, the feature store and the files of runs
around it.
"""

from . import own as own
from .result import Result as Result

"""The papers' tables, measured again: `jaxalign reproduce`."""

from .cells import Cell as Cell
from .cells import Outcome as Outcome
from .cells import read_cells as read_cells
from .run import Missing as Missing
from .run import Places as Places
from .run import Reproduction as Reproduction
from .run import Selection as Selection
from .run import reproduce as reproduce
from .session import Session as Session
from .tables import TABLES as TABLES
from .tables import Table as Table
from .tables import find_table as find_table

"""What the papers measure: one file for each task, with its settings, computation, columns and figures.

`registry.TASKS` has all of them.
"""

from .own_methods import Given as Given
from .own_methods import OwnMethod as OwnMethod
from .task import Column as Column
from .task import Task as Task

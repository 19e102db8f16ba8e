"""What the papers measure: one file for each task, with its settings, computation, columns and figures."""

from .task import Column as Column
from .task import Task as Task

# In the order of the report.
TASKS: dict[str, Task] = {task.name: task for task in ()}

"""What the papers measure: one file for each task, with its settings, computation, columns and figures."""

from . import image_retrieval, text_image, text_retrieval
from .task import Column as Column
from .task import Task as Task

# In the order of the report.
TASKS: dict[str, Task] = {
    task.name: task for task in (image_retrieval.TASK, text_image.TASK, text_retrieval.TASK)
}

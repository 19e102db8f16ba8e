"""All tasks by name."""

from collections.abc import Mapping
from types import MappingProxyType

from . import (
    ambiguity,
    classification,
    degrees_of_freedom,
    dogs_cats,
    few_shot,
    image_retrieval,
    indicators,
    spectra,
    sweep,
    text_image,
    text_retrieval,
    views,
)
from .task import Task

# In the order of the report.
TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            image_retrieval.TASK,
            text_image.TASK,
            text_retrieval.TASK,
            classification.TASK,
            few_shot.TASK,
            sweep.TASK,
            spectra.SPECTRUM,
            spectra.PARTS,
            indicators.BY_CLASS,
            indicators.BY_MODALITY,
            dogs_cats.TASK,
            ambiguity.TASK,
            degrees_of_freedom.TASK,
            views.TASK,
        )
    }
)

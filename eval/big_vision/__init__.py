"""Evaluators that run inside big_vision's trainers, and IsoCLIP's projectors for its models.

big_vision looks an evaluator up as a module of its own, `big_vision.evaluators.<type>`. Importing this
package in a config puts ours there:

    import jaxalign.eval.big_vision  # registers intra_modal_retrieval, intra_modal_fewshot and with_isoclip

    config.evals.birds = dict(type="intra_modal_retrieval", dataset="cub", image_size=224, log_steps=1000)

Neither TensorFlow nor big_vision is imported here, and nothing is compiled before an evaluator first runs.
"""

import sys

from . import intra_modal_fewshot, intra_modal_retrieval, with_isoclip
from .heads import isoclip_params as isoclip_params
from .heads import read_projectors as read_projectors
from .heads import with_projectors as with_projectors

for _module in (intra_modal_fewshot, intra_modal_retrieval, with_isoclip):
    sys.modules[f"big_vision.evaluators.{_module.__name__.rpartition('.')[2]}"] = _module

"""Modality inversion: an embedding of one modality turned into input of the other tower, by optimisation.

OTI (text inversion) finds pseudo-tokens in place of `{}` in a prompt whose text embedding points where an
image embedding does; OVI (visual inversion) finds pseudo-patches for a text embedding. Source: Cross the Gap
(arXiv:2502.04263), as used for the baselines of IsoCLIP (supplement E.2).

The published code averages the loss over its batch, so Adam's epsilon weighs differently at each batch size.
Here every example is an optimisation of its own: the result does not depend on which examples share a batch.
"""

from .batches import Inversion as Inversion
from .invert import invert_to_image as invert_to_image
from .invert import invert_to_text as invert_to_text

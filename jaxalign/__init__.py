"""Intra-modal similarity of CLIP-like models: how good it is, and how to improve it without training.

What there is stands in `__init__.pyi`; a name is imported when it is first used, so that what needs none of
them, as the help of the command line does, imports no JAX either.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

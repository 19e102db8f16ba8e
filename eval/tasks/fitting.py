"""Methods of one model and modality, fitted to what the feature store has."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder

from .given import GivenTexts
from .methods import Embed, Method
from .workspace import Workspace


class Fitting:
    """Methods of one model and modality, fitted once each; what they share is computed once."""

    def __init__(self, workspace: Workspace, model: DualEncoder, gallery: Callable[[], np.ndarray]):
        self.workspace, self.model, self._gallery = workspace, model, gallery
        self._texts: dict[tuple[str, ...], np.ndarray] = {}

    @cached_property
    def spectrum(self) -> ja.Spectrum:
        return ja.decompose(self.model.projectors)

    def embed(self, method: Method) -> Embed:
        """The method as a function from pre-projection features to embeddings."""
        return method.fit(
            self.model,
            spectrum=self.spectrum if "spectrum" in method.kind.needs else None,
            subspace_texts=self.subspace_texts(method) if method.texts else None,
            gallery=self._gallery() if "gallery" in method.kind.needs else None,
        )

    def subspace_texts(self, method: Method) -> np.ndarray:
        """Embeddings of the texts of PCA<-."""
        if isinstance(method.texts, GivenTexts):
            return method.texts.values
        if method.texts not in self._texts:
            ids = [f"{i}" for i in range(len(method.texts))]
            found = self.workspace.text_embeddings(self.model, "class names of PCA", ids, method.texts)
            self._texts[method.texts] = found
        return self._texts[method.texts]

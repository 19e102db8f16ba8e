"""What is left in an embedding, in words: captions of embeddings, as they are or after a method.

A caption decoder is given an embedding and says what it finds there. What a method has removed it cannot say,
so captions before and after show what that was. The embedding after PCA<- is Q L Q^T x (eq. 11), `project` of
`jaxalign.Subspace`; after IsoCLIP it is W_i U_b U_b^T f, what the projectors of `jaxalign.isoclip` give: both
lie in the shared space, and take the place of the embedding.

Source: Reevaluating the Intra-Modal Misalignment Hypothesis in CLIP, figures 9 and 10, which does so with
ClipCap (arXiv:2111.09734).
"""

from __future__ import annotations  # help() shows them as they are written here

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError
from jaxalign.features import as_features, is_count, normalize
from jaxalign.inputs.json_vocabulary import JsonVocabulary
from jaxalign.models.caption_decoder import CaptionDecoderConfig

from .decoding import beam_search, greedy

MOST_TOKENS = 67  # as ClipCap's own code has it


@dataclass(frozen=True)
class Captioner:
    """A caption decoder in use: embeddings in, texts out. What `load_captioner` returns.

    Attributes:
      name: "emoji-clip", or the file's.
      config: sizes; `config.embedding` is the width d of the embeddings.
      params: of `jaxalign.models.caption_decoder.CaptionDecoder`, float32.
      vocabulary: the words.
      stop_token: the id that ends a caption.
      normalize: whether the decoder learned from embeddings of length one; others are then scaled to that,
        and otherwise taken as long as they are.
    """

    name: str
    config: CaptionDecoderConfig
    params: dict[str, Any] = field(repr=False)
    vocabulary: JsonVocabulary = field(repr=False)
    stop_token: int
    normalize: bool

    def captions(
        self,
        embeddings: ArrayLike,
        *,
        beams: int = 1,
        max_tokens: int = MOST_TOKENS,
        batch_size: int = 64,
    ) -> list[str]:
        """What the decoder finds in embeddings.

        Args:
          embeddings: `[n, d]`, as `encode_image` gives them or after a method, in the shared space.
          beams: 1 for the likeliest token each time; more for so many beams, of which the one wins whose
            tokens have the highest mean log probability, as in ClipCap's code.
          max_tokens: a caption is cut after so many, or where the decoder has no more positions.
          batch_size: captions that are written at once, of which each beam is one; the last batch is padded,
            so that a call compiles one shape.

        Returns:
          n texts.

        Raises:
          JaxalignError: embeddings of another width, not finite or none, or a number below 1.
        """
        for name, value in {"beams": beams, "max_tokens": max_tokens, "batch_size": batch_size}.items():
            if not is_count(value):
                raise JaxalignError(f"{name} is {value!r}; expected an integer of 1 or more")
        x = as_features("embeddings", embeddings)
        if x.shape[1] != self.config.embedding:
            raise JaxalignError(
                f"the embeddings are {x.shape[1]} wide, and the captioner {self.name} was trained on"
                f" {self.config.embedding}; pass the embeddings of its model, or take another captioner"
            )
        if beams > self.config.vocabulary:
            raise JaxalignError(f"beams is {beams}; expected at most {self.config.vocabulary}, a beam a word")
        x = np.asarray(normalize(x) if self.normalize else x, np.float32)
        size = max(batch_size // beams, 1)
        size = min(size, 1 << (len(x) - 1).bit_length())  # few: the next power of two
        batches = (x[i : i + size] for i in range(0, len(x), size))
        return [text for batch in batches for text in self._say(batch, size, beams, max_tokens)]

    def _say(self, batch: np.ndarray, size: int, beams: int, most: int) -> list[str]:
        padded = jnp.asarray(np.pad(batch, ((0, size - len(batch)), (0, 0))))
        most = min(most, self.config.context - self.config.mapper.prefix)
        given = (self.config, self.params, padded, self.stop_token, most)
        found = greedy(*given) if beams == 1 else beam_search(*given, beams)
        tokens, lengths = (np.asarray(x)[: len(batch)] for x in found)
        ids = [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
        return [text.strip() for text in self.vocabulary.decode(ids)]

"""A template and the number of pseudo-tokens, in token ids."""

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.models import TextTowerConfig

from .text_path import TextPath


def text_path(model: DualEncoder, template: str, count: int) -> TextPath:
    """The tokens around `count` pseudo-tokens in place of the `{}` of `template`.

    Raises:
      JaxalignError: not exactly one `{}`, more tokens than the context has, an end token before the end, a
        text tower that pools elsewhere, or a model without tokenizer or text tower.
    """
    if template.count("{}") != 1:
        raise JaxalignError(
            f"template {template!r} has {{}} {template.count('{}')} times; expected it once, where the"
            " pseudo-tokens go"
        )
    config, tokenizer = model.require_text(), model.require_tokenizer()
    before, after = tokenizer.words([part.strip() for part in template.split("{}")])
    before = before if tokenizer.start_token is None else [tokenizer.start_token, *before]
    after = [*after, tokenizer.end_token]
    length = len(before) + count + len(after)
    if length > config.context:
        raise JaxalignError(
            f"template {template!r} with {count} pseudo-tokens takes {length} tokens; expected at most"
            f" {config.context}, the context of {model.name}"
        )
    if tokenizer.end_token in (*before, *after[:-1]):
        raise JaxalignError(
            f"template {template!r} contains the end token, where the text would end; leave it out"
        )
    _check_pooling(config, template, [*before, *after])
    if config.pools_at == "last":  # of the padding, which is therefore attended to
        after += [tokenizer.pad_token] * (config.context - length)
    return TextPath(config, model.dtype, tuple(before), count, tuple(after))


def _check_pooling(config: TextTowerConfig, template: str, ids: list[int]) -> None:
    """The path ends with the position that is pooled: the end token, or the last one of the context."""
    pools_at = config.pools_at
    if pools_at == "first" or (pools_at != "last" and not config.causal):
        mask = "a causal" if config.causal else "no"
        raise JaxalignError(
            f"the text tower has {mask} mask and pools {pools_at!r}; textual inversion needs a causal tower"
            " that pools its end token, or one that pools the last position"
        )
    if pools_at == "argmax" and max(ids) != ids[-1]:
        raise JaxalignError(
            f"template {template!r} has the id {max(ids)}, which this tower pools instead of the end token"
            f" {ids[-1]}; leave that word out"
        )

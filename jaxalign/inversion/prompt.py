"""A template and the number of pseudo-tokens, in token ids."""

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError

from .text_path import TextPath


def text_path(model: DualEncoder, template: str, count: int) -> TextPath:
    """The tokens around `count` pseudo-tokens in place of the `{}` of `template`.

    Raises:
      JaxalignError: not exactly one `{}`, more tokens than the context has, an end token before the end, or a
        model without tokenizer or text tower.
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
    if config.end_token in (*before, *after[:-1]):
        raise JaxalignError(
            f"template {template!r} contains the end token, where the text would end; leave it out"
        )
    if not config.causal:  # attends over the padding
        after += [tokenizer.pad_token] * (config.context - length)
    return TextPath(config, model.dtype, tuple(before), count, tuple(after))

"""OTI and OVI against Cross-the-Gap's own functions, on open_clip's towers with random weights."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from jaxalign.inversion.image_path import ImagePath
from jaxalign.inversion.text_path import TextPath
from jaxalign.models import ImageTower, TextTower

from .checkouts import load_functions
from .costs import image_tower, text_path
from .inversion import CLIP_IMAGE, CLIP_TEXT, PROMPT, Run
from .measure import Claim, pair
from .settings import pick

REPOSITORY, SOURCE = "cross_the_gap", "src/encode_with_pseudo_tokens.py"
DEPTH, STEPS = pick(12, 1), pick(2, 1)  # theirs; a step of OTI takes seconds
PATCHES = 4
ENCODERS = ("encode_with_pseudo_tokens_openclip", "encode_image_with_pseudo_tokens_openclip")


def inversion_claims(checkout: str, given: Mapping[str, Any]) -> Iterator[Claim]:
    """One for each inversion, for an image or text and a step."""
    torch, model = given["torch"], openclip_model(checkout, given)
    if model is None:
        print("papers: OTI and OVI skipped, need open_clip (pip install 'jaxalign[reference]')")
        return
    oti = load_functions(checkout, REPOSITORY, "src/oti.py", ["oti"], given)["oti"]
    ovi = load_functions(checkout, REPOSITORY, "src/ovi.py", ["ovi"], given)["ovi"]
    texts = replace(CLIP_TEXT, depth=DEPTH)
    text = TextPath(texts, jnp.dtype("float32"), PROMPT, 1, (1,))
    params = jax.jit(TextTower(texts).init)(jax.random.key(0), jnp.zeros((1, 77), jnp.int32))["params"]
    batch = pick(32, 2)
    targets = torch.randn(batch, texts.projection)
    yield claim(
        "OTI, CLIP ViT-B/32",
        Run(text, text.prepare(params), batch, STEPS),
        quietly(lambda: oti(targets, model, oti_steps=STEPS)),
        text_path(texts, len(PROMPT), 1, 1).forward_and_back,
        pick(60, None),
    )
    images = replace(CLIP_IMAGE, depth=DEPTH)
    image = ImagePath(images, jnp.dtype("float32"), PATCHES)
    params = jax.jit(ImageTower(images).init)(jax.random.key(0), jnp.zeros((1, 224, 224, 3)))["params"]
    batch = pick(16, 2)
    captions = torch.randn(batch, texts.projection)
    yield claim(
        f"OVI, CLIP ViT-B/32, P = {PATCHES}",
        Run(image, params, batch, STEPS),
        quietly(lambda: ovi(captions, model, num_pseudo_tokens=PATCHES, ovi_steps=STEPS)),
        image_tower(images, patches=False).forward_and_back,
        pick(2.5, None),
    )


def claim(name: str, ours: Run, theirs: Callable[[], Any], flops: float, at_least: float | None) -> Claim:
    timed = pair(ours, theirs, repeats=3, budget=60)
    return Claim(
        name=f"{name}, batch {ours.batch}",
        seconds=timed.seconds / ours.batch / (ours.steps + 1),
        compile_seconds=timed.compile_seconds,
        reference=REPOSITORY,
        reference_seconds=timed.reference_seconds / ours.batch / STEPS,
        at_least=at_least,
        flops=flops,
        unit="image and step",
    )


def openclip_model(checkout: str, given: Mapping[str, Any]) -> Any:
    """What their inversions take as a model: open_clip's CLIP with their two encoders; None without it."""
    try:
        from open_clip.model import CLIP
        from open_clip.tokenizer import SimpleTokenizer
        from open_clip.transformer import text_global_pool
    except ImportError:
        return None
    vision: Any = {"layers": DEPTH, "width": 768, "patch_size": 32, "image_size": 224}
    text: Any = {"layers": DEPTH, "width": 512, "heads": 8, "context_length": 77, "vocab_size": 49408}
    model = CLIP(512, vision, text, quick_gelu=True).eval().requires_grad_(False)
    tokenizer = SimpleTokenizer()
    pound = tokenizer("£")[0][1].item()
    # Until open_clip 3 the tokens came back too, and their code takes them.
    pool = lambda x, text, kind: (text_global_pool(x, text, kind), x)
    names = {"text_global_pool": pool, "get_special_token_idx": lambda *_: pound}
    encode_text, encode_image = load_functions(
        checkout, REPOSITORY, SOURCE, ENCODERS, {**given, **names}
    ).values()
    return SimpleNamespace(
        tokenizer=tokenizer,
        text_token_embedding_dim=512,
        visual_token_embedding_dim=768,
        encode_with_pseudo_tokens=lambda *arguments: encode_text(model, *arguments),
        encode_image_with_pseudo_tokens=lambda *arguments: encode_image(model, *arguments),
    )


def quietly(function: Callable[[], Any]) -> Callable[[], Any]:
    """Without PyTorch's complaints that mixed precision on CUDA is asked for where there is none."""

    def run() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function()

    return run

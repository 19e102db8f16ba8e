"""The files that known checkpoints were published in, by the SHA-256 of all their bytes.

Where the digests are from: OpenAI's stand in the addresses of its own `clip.py`. Of large files the Hugging
Face hub states the SHA-256 as the id of their storage, and public repositories print it for the commit that
the record pins: several of them alike, one alone for timm's ResNet-50 and open_clip's SigLIP 2. Meta's DINOv3
has the first digits in its name. The embedded models are our own.

No public text prints the digests of the other known models: of these the repository alone tells that a model
is the record's. All that is known of their tensors is `shapes_digest`, which fine-tuned weights have as well.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from jaxalign.models import TwoTowersConfig
from jaxalign.weights.tensors import expected_shapes


@dataclass(frozen=True)
class PublishedFile:
    """A weights file.

    Attributes:
      name: of the file where it is published; a copy may be called anything.
      size: in bytes; None where nobody prints it.
      sha256: hexadecimal digits.
    """

    name: str
    size: int | None
    sha256: str


PUBLISHED: Mapping[str, tuple[PublishedFile, ...]] = {
    "emoji-clip": (
        PublishedFile(
            "model.safetensors", 6_772_018, "c0368d7323172a43c9e1f65eb7439c5c15e53a2355b40b01a7f9a4975ba8fca3"
        ),
    ),
    "emoji-siglip": (
        PublishedFile(
            "model.safetensors", 6_787_596, "f15c0019264d12ee6b9981c3ae8b45bd51db0762ea6dacdd55b57d21fae90231"
        ),
    ),
    "clip-vit-base-patch32": (
        PublishedFile(
            "ViT-B-32.pt", 353_976_522, "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
        ),
        PublishedFile(
            "pytorch_model.bin",
            605_247_071,
            "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
        ),
    ),
    "clip-vit-base-patch16": (
        PublishedFile(
            "ViT-B-16.pt", 350_837_078, "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
        ),
        PublishedFile(
            "pytorch_model.bin",
            598_641_023,
            "ec89c7b09c749a60aae3c9cd910516f24b58214a7df060b48962d14c469cfbf0",
        ),
    ),
    "clip-vit-large-patch14": (
        PublishedFile(
            "ViT-L-14.pt", 932_768_134, "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"
        ),
        PublishedFile(
            "model.safetensors",
            1_710_540_580,
            "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
        ),
        PublishedFile(
            "pytorch_model.bin",
            1_710_671_599,
            "f1a17cdbe0f36fec524f5cafb1c261ea3bbbc13e346e0f74fc9eb0460dedd0d3",
        ),
    ),
    "clip-vit-large-patch14-336": (
        PublishedFile(
            "ViT-L-14-336px.pt",
            934_088_680,
            "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        ),
        PublishedFile(
            "pytorch_model.bin",
            1_711_974_081,
            "c6032c2e0caae3dc2d4fba35535fa6307dbb49df59c7e182b1bc4b3329b81801",
        ),
    ),
    "clip-rn50": (
        PublishedFile(
            "RN50.pt", 255_827_503, "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
        ),
        PublishedFile(
            "open_clip_model.safetensors",
            408_291_932,
            "da0baa37fb2211eee5729ab69ed587eb10d48f5b7076ceeed01552fc3d4cb4ee",
        ),
    ),
    "clip-vit-base-patch32-datacomp": (
        PublishedFile(
            "open_clip_model.safetensors",
            None,
            "3c00043509d2e3f35ec62bd85a643a393883dcda624d8208d034cc390c708297",
        ),
    ),
    "siglip-base-patch16-224": (
        PublishedFile(
            "model.safetensors",
            812_672_320,
            "2c63cb7d1f2e95ba501893cbb8faeb4ea9a3af295498d35097126228659c2af8",
        ),
    ),
    "siglip-so400m-patch14-384": (
        PublishedFile(
            "model.safetensors",
            3_511_950_624,
            "ea2abad2b7f8a9c1aa5e49a244d5d57ffa71c56f720c94bc5d240ef4d6e1d94a",
        ),
    ),
    "siglip2-base-patch16-224": (
        PublishedFile(
            "model.safetensors",
            1_500_800_904,
            "612923381c76ec5a9bed335d1c48827e3f2e506ac31b044b63b2031fadee6a0b",
        ),
    ),
    "siglip2-so400m-patch14-384": (
        PublishedFile(
            "model.safetensors",
            4_544_143_072,
            "9f4f4a49f908ef0c979bce8ff5a5c0e88882dc6c5dc4304387cbbd152558e2c2",
        ),
    ),
    "siglip2-base-patch16-224-open-clip": (
        PublishedFile(
            "open_clip_model.safetensors",
            1_500_786_832,
            "d0a51069d2fa6c95b371b3bffd2a2c765c1815004798ee99f075290dbca73041",
        ),
    ),
    "dinov2-base": (
        PublishedFile(
            "model.safetensors",
            346_345_912,
            "d73036b56966966d07975d696bde331762f37297e2f095de8cea0040c3aa0841",
        ),
    ),
    "dinov2-base-518": (
        PublishedFile(
            "model.safetensors",
            346_334_872,
            "55cbb5d887b336d430e649c277b85a1429e724871f9d02ac16203235886d8c7b",
        ),
    ),
    "dinov2-base-meta": (
        PublishedFile(
            "dinov2_vitb14_pretrain.pth",
            346_378_731,
            "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
        ),
    ),
    "dinov2-with-registers-base": (
        PublishedFile(
            "model.safetensors", None, "7a6f7b3b9fa4b8732e707476a03cd6cdce210048582f21aafb7991c17d98e362"
        ),
    ),
    "dinov3-large-patch16": (
        PublishedFile(
            "model.safetensors",
            1_212_559_808,
            "dcb2e45127cccbf1601e5f42fef165eea275c8e5213197e8dcf3f48822718179",
        ),
        PublishedFile(
            "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth",
            1_213_050_671,
            "8aa4cbddda325040fc78db2c272754af6ebe8ff2c55f6ec4f1964d8890f66035",
        ),
    ),
    "dinov3-large-patch16-256": (
        PublishedFile(
            "model.safetensors",
            1_212_347_640,
            "45172f209c9583c40538afc26b60a07033e6fcc2e8c30228338e6b2e932e7941",
        ),
    ),
}


def shapes_digest(towers: TwoTowersConfig) -> str:
    """SHA-256 over names and shapes of our parameters, as hexadecimal digits.

    It tells architectures apart and never proves which model it is.
    """
    lines = (f"{name} {shape}\n" for name, shape in sorted(expected_shapes(towers).items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()

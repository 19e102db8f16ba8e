"""`jaxalign convert`: any known checkpoint to a folder of ours, or to one that another library loads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxalign.eval.terminal import Stages, say

from .options import FormatOption, JsonFile, OwnName, SettingsOf, option
from .printing import write_json


@dataclass(frozen=True)
class Convert:
    """Convert a checkpoint to another format, and check it.

    SRC is a folder of transformers, open_clip or timm, a file (.safetensors, .npz, .pt, .pth, .bin), a known
    model or a hub id. DST becomes a folder with config.json, model.safetensors and tokenizer files that
    jaxalign.load reads, or with --format one that another library loads (for big_vision a .npz), and
    verify.json: number of parameters, SHA-256 of each tensor, and all facts. It is complete or not there at
    all, and what a format cannot express is refused.

    Examples:
      jaxalign convert openai/clip-vit-base-patch16 clip-b16
      jaxalign convert ViT-B-16.pt clip-b16 --dtype bfloat16
      jaxalign convert epoch_32.pt my-clip --spec clip-vit-base-patch16-datacomp
      jaxalign convert google/siglip2-base-patch16-224 siglip2.npz --format big_vision
      jaxalign convert siglip2.npz siglip2-hf --format huggingface
    """

    src: Annotated[str, tyro.conf.Positional, option("Checkpoint to convert.", "SRC")]
    dst: Annotated[
        Path, tyro.conf.Positional, option("Folder to write, or file where the format is one file.", "DST")
    ]
    spec: SettingsOf = None
    name: OwnName = None
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], option("Type of the numbers in DST.")] = (
        "float32"
    )
    format: FormatOption = "jaxalign"
    json: JsonFile = None

    def run(self) -> None:
        from jaxalign.conversion.conversion import convert_checkpoint

        with Stages().stage("convert", f"converting {self.src}", announced=False):
            report = convert_checkpoint(
                self.src, self.dst, spec=self.spec, name=self.name, dtype=self.dtype, to=self.format
            )
        write_json(self.json, report)
        for note in report["notes"]:
            say(f"Note: {note}")
        say(
            f"{report['name']}: {report['parameters']:,} parameters in {len(report['tensors'])} tensors,"
            f" {self.dtype}, written to {self.dst} and read back"
        )

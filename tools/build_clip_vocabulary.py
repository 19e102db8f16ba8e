"""Write the part of CLIP's merge list that its vocabulary uses to jaxalign/vocabularies/.

    python tools/build_clip_vocabulary.py path/to/bpe_simple_vocab_16e6.txt.gz

The source is `open_clip/bpe_simple_vocab_16e6.txt.gz` of open_clip (MIT), the same file as in OpenAI's CLIP
(MIT). It has 262,144 merges; CLIP takes the first 48,894, which with 512 bytes and
two special tokens make 49,408 ids.
"""

import gzip
import sys
from pathlib import Path

from jaxalign.inputs.clip_bpe import MERGES, NUM_MERGES


def main(source: Path) -> None:
    lines = gzip.decompress(source.read_bytes()).decode("utf-8").split("\n")
    kept = "\n".join(lines[1 : NUM_MERGES + 1]) + "\n"  # the first line is a version
    MERGES.parent.mkdir(exist_ok=True)
    MERGES.write_bytes(gzip.compress(kept.encode(), compresslevel=9, mtime=0))
    print(f"{MERGES}: {NUM_MERGES} merges, {MERGES.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""JSON as every file of ours has it."""

import json
import re
from typing import Any

_SURROGATES = re.compile("[\ud800-\udfff]")  # bytes of file names that are no UTF-8


def json_text(content: Any, indent: int | None = None) -> str:
    """`content` as JSON that can be written in UTF-8; readers of JSON get back every file name as it is."""
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    return _SURROGATES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)

"""JSON as every file of ours has it."""

import json
import re
from typing import Any

# What a terminal obeys, what reverses a text or ends a line, and bytes of file names that are no UTF-8.
_ESCAPED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def json_text(content: Any, indent: int | None = None) -> str:
    """`content` as JSON that can be written anywhere; readers of JSON get back every file name as it is."""
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)

"""The page around every report: one file that loads nothing and runs nothing."""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from jaxalign.errors import printable
from jaxalign.eval.figures import to_svg
from jaxalign.eval.labels import show

FOLDER = Path(__file__).parent


def _as_text(value: Any) -> Any:
    """What is shown of `value`: names of files may hold what no page in UTF-8 can."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def data_uri(image: np.ndarray) -> str:
    """`image` uint8 `[h, w, 3]` as a lossy WebP of good quality: a scene of 48 pixels takes about 1 KiB."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=85, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def render(template: str, **values: Any) -> str:
    """The page that `template` of this folder makes of `values`; every text in it is one line, and escaped.

    Its content security policy allows images inside the page and the page's own style sheet, nothing else.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_as_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": data_uri, "show": show, "to_svg": to_svg}
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'"
    return environment.get_template(template).render(
        style=Markup(style),  # our own: no text of a user is in it
        policy=f"{policy}; form-action 'none'",
        **values,
    )

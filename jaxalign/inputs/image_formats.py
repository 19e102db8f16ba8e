"""Formats of image files: those that are read, and those that are named because they are not.

Only decoders of rasters that run in this process: an EPS, which starts Ghostscript, is no image here, and
neither is what refers to other files.
"""

import functools
import importlib
import importlib.util

from jaxalign.errors import JaxalignError

# Of Pillow, in the order in which they are tried; HEIF is that of pillow-heif (extra `heic`). TGA is the last
# one: it has no signature, and would try itself at anything.
FORMATS = (
    "JPEG",
    "PNG",
    "GIF",
    "WEBP",
    "TIFF",
    "BMP",
    "DIB",
    "PPM",
    "JPEG2000",
    "AVIF",
    "HEIF",
    "TGA",
)
_OTHERS = """
.3fr .arw .bay .cap .cr2 .cr3 .crw .dcr .dcs .dng .drf .eip .erf .fff .gpr .iiq .k25 .kdc .mdc .mef .mos .mrw
.nef .nrw .orf .pef .ptx .pxn .raf .raw .rw2 .rwl .rwz .sr2 .srf .srw .x3f
.ai .cdr .emf .eps .epsi .ps .svg .svgz .wmf
.bpg .cur .dds .dpx .exr .fit .fits .flif .hdp .hdr .icns .ico .insp .jls .jps .jxl .jxr .kra .pam .pcd .pct
.pcx .pic .pict .psb .psd .qoi .ras .rgbe .sgi .wdp .xbm .xcf .xpm
.avif .avifs .heic .heics .heif .heifs .hif .j2c .j2k .jp2 .jpc .jpf .jpx .webp
"""
# Of files that people call images, and that are not read: raw photos, drawings, icons, layers; the last line
# where the installed packages cannot decode them.
OTHER_ENDINGS = frozenset(_OTHERS.split())
HEIF_ENDINGS = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})

_FEATURES = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}  # that a Pillow may lack


@functools.cache
def accepted_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed packages can decode, in the order in which they are tried."""
    from PIL import Image, features

    Image.init()
    has_heif = importlib.util.find_spec("pillow_heif") is not None
    if has_heif:
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError as error:
            reason = f"pillow-heif is installed and cannot be imported ({error})"
            raise JaxalignError(f"{reason}; reinstall it, or remove it") from error
    is_there = lambda name: has_heif if name == "HEIF" else features.check(_FEATURES.get(name, "pil"))
    return tuple(name for name in FORMATS if name in Image.OPEN and is_there(name))


@functools.cache
def image_endings() -> frozenset[str]:
    """What names of files in the accepted formats end in, with the dot, in small letters."""
    from PIL import Image

    formats = {*accepted_formats(), "MPO"}  # the latter is a JPEG with further images behind it
    return frozenset(ending for ending, name in Image.EXTENSION.items() if name in formats)

"""Operations of pickles, each of which leaves one object on the stack, and names that programs ask for."""

import struct


def _names(by_module: dict[str, str]) -> tuple[str, ...]:
    """`module name` for each."""
    return tuple(f"{module} {name}" for module, names in by_module.items() for name in names.split())


ADMITTED = _names(
    {
        "collections": "OrderedDict defaultdict",
        "argparse": "Namespace",
        "builtins": "set complex bytearray range slice",
        "__builtin__": "set",
        "pathlib": "PosixPath Path",
        "datetime": "datetime",
        "copyreg": "_reconstructor",
        "_codecs": "encode",
        "torch": "Size device float32 FloatStorage HalfStorage BFloat16Storage ByteStorage",
        "torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_parameter _rebuild_qtensor",
        "torch._tensor": "_rebuild_from_type_v2",
        "torch.storage": "UntypedStorage",
        "torch.nn.parameter": "Parameter",
        "torch.serialization": "_get_layout",
        "torch.jit._pickle": "build_intlist restore_type_tag",
        "__torch__.model": "Model",
        "__torch__.os": "system",
        "numpy": "dtype ndarray",
        "numpy.core.multiarray": "_reconstruct scalar",
        "numpy._core.multiarray": "_reconstruct scalar",
        "numpy.core.numeric": "_frombuffer",
        "numpy._core.numeric": "_frombuffer",
        "numpy.random._pickle": "__randomstate_ctor",
    }
)
"""Names that checkpoints and lists of numbers have in them."""

FORBIDDEN = _names(
    {
        "posix": "system mkdir",
        "os": "system mkdir execv popen",
        "os.path": "os.system",
        "nt": "system",
        "builtins": "exec eval __import__ getattr setattr open compile",
        "__builtin__": "eval",
        "subprocess": "Popen check_output",
        "operator": "attrgetter methodcaller",
        "functools": "partial",
        "types": "FunctionType CodeType",
        "importlib": "import_module",
        "runpy": "run_path",
        "pickle": "loads",
        "_pickle": "loads",
        "numpy": "load fromfile ndarray.tofile",
        "numpy.testing._private.utils": "runstring",
        "torch": "load",
        "torch.hub": "load",
        "torch._utils": "_rebuild_tensor_v2.__globals__.__getitem__",
        "collections": "OrderedDict.__init__.__globals__",
        "pathlib": "PosixPath.touch",
        "shutil": "rmtree",
        "pty": "spawn",
        "argparse": "FileType",
        "logging": "FileHandler",
        "webbrowser": "open",
    }
)
"""Names that run code, reach files, or lead to what does."""


def text(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(content)) + content


def integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    content = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content if len(content) < 256 else long_text(value)


def long_text(value: int) -> bytes:
    return b"L" + hex(value).encode() + b"L\n"


def name(dotted: str) -> bytes:
    """A module and what is in it: `module name`."""
    module, _, attribute = dotted.partition(" ")
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def name_from_stack(dotted: str) -> bytes:
    module, _, attribute = dotted.partition(" ")
    return text(module) + text(attribute) + b"\x93"


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"

"""Methods from outside this package, beside its own in every command, run and report.

`--methods module:name` (or `file.py:name`) names one, and so does an entry point of the group
`jaxalign.methods`. Runs hold a digest of its source file, so that a method that was changed is measured anew.
"""

import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.errors import JaxalignError, unknown_name

from .given import Need

Embed = Callable[[ArrayLike], jax.Array]


@dataclass(frozen=True)
class Given:
    """What a method stands on. All but `embed` is None for a method that does not need it.

    Attributes:
      embed: the model's own projector: pre-projection features `[n, d_in]` to embeddings `[n, d]`.
      projectors: both of the model.
      spectrum: `ja.decompose(projectors)`.
      class_texts: embeddings `[m, d]` of prompts with class names, those of PCA<- (`--subspace`,
        `--class-names`).
      gallery: pre-projection features `[g, d_in]` of the gallery.
    """

    embed: Embed
    projectors: ja.Projectors | None = None
    spectrum: ja.Spectrum | None = None
    class_texts: ArrayLike | None = None
    gallery: ArrayLike | None = None


@dataclass(frozen=True)
class OwnMethod:
    """A method of one's own.

    Attributes:
      fit: takes `Given`, and returns the function from pre-projection features float32 `[n, d_in]` to
        embeddings `[n, d]`, not necessarily of length one; queries and gallery both pass through it.
      needs: what `fit` reads of `Given`, beside `embed`.
      about: a phrase that says what its embeddings are, for whoever reads the code.
      version: to be raised where a file changes what `fit` computes that is not its own.
    """

    fit: Callable[[Given], Embed]
    needs: tuple[Need, ...] = ()
    about: str = ""
    version: int = 1

    def __post_init__(self) -> None:
        if not callable(self.fit):
            raise JaxalignError(f"fit is {self.fit!r}; expected a function that takes `Given`")
        for need in self.needs:
            if need not in get_args(Need):
                raise unknown_name("need of a method", str(need), get_args(Need))


@dataclass(frozen=True)
class Found:
    """An `OwnMethod` under the name that it is asked for by; `code` is the start of its source's SHA-256."""

    name: str
    method: OwnMethod
    code: str

    def fit(self, given: Given) -> Embed:
        """The method's own embedding, whose results are checked."""
        with _naming(self.name):
            embed = self.method.fit(given)
        if not callable(embed):
            raise JaxalignError(f"the method {self.name} returned {embed!r}; expected a function of features")

        def checked(pre: ArrayLike) -> jax.Array:
            with _naming(self.name):
                found = jnp.asarray(embed(pre))
            count = jnp.shape(pre)[0]
            if found.ndim != 2 or len(found) != count or not jnp.issubdtype(found.dtype, jnp.floating):
                raise JaxalignError(
                    f"the method {self.name} gave {found.dtype.name} {list(found.shape)} for {count} rows of"
                    f" features; expected floats [{count}, d]"
                )
            if not jnp.isfinite(found).all():
                raise JaxalignError(
                    f"the method {self.name} gave NaN or infinite values; expected finite ones"
                )
            return found

        return checked


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """What somebody else's code raises, as an error of one line that names the method."""
    try:
        yield
    except JaxalignError:
        raise
    except (Exception, SystemExit) as error:  # of code that is not ours, which may raise anything
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
        raise JaxalignError(f"the method {name} raised {type(error).__name__}: {error} ({where})") from error


def import_method(name: str) -> Found:
    """The method `module:name` or `file.py:name`; raises JaxalignError for a module that cannot be imported
    or lacks the name, or what is no method."""
    module, _, attribute = name.rpartition(":")
    with _naming(name):
        found = _import(module)
    if not hasattr(found, attribute):
        own = lambda thing: isinstance(thing, OwnMethod) or getattr(thing, "__module__", "") == found.__name__
        raise unknown_name(f"method of {module}", attribute, [n for n, x in vars(found).items() if own(x)])
    return as_found(name, getattr(found, attribute), found.__name__)


def as_found(name: str, thing: Any, module: str) -> Found:
    """What was found in a module under a name; raises JaxalignError for what is no method."""
    method = (
        thing if isinstance(thing, OwnMethod) else OwnMethod(cast(Any, thing)) if callable(thing) else None
    )
    if method is None:
        raise JaxalignError(f"{name} is {thing!r}; expected an OwnMethod, or a function that takes `Given`")
    fit: Any = method.fit
    while isinstance(fit, functools.partial):
        fit = fit.func
    digest = hashlib.sha256(f"{method.version}".encode())
    for place in dict.fromkeys((module, getattr(fit, "__module__", type(fit).__module__))):
        code = getattr(sys.modules.get(place), "__file__", None)
        if not code or not os.path.isfile(code):
            raise JaxalignError(f"{name} has no source file; its runs could not be told apart")
        digest.update(Path(code).read_bytes())
    return Found(name, method, digest.hexdigest()[:16])


def _import(module: str) -> Any:
    """A module by its name, also in the working directory, or by its file."""
    if module.endswith(".py"):
        path = Path(module).absolute()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise JaxalignError(f"there is no file {module}; expected a Python file, as in methods.py:name")
        found: Any = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
        if getattr(found, "__file__", None) != str(path):
            raise JaxalignError(f"{module} is called as another module, {spec.name}; rename the file")
        if not hasattr(found, "__jaxalign_loaded__"):
            spec.loader.exec_module(found)
            found.__jaxalign_loaded__ = True
        return found
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise JaxalignError(
            f"there is no module {module!r}, here or among installed packages; expected module:name or"
            " file.py:name"
        ) from error

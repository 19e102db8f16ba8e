"""Class names and prompt templates that come with the package: the texts whose directions PCA<- keeps."""

from functools import cache
from importlib.resources import files

from jaxalign.errors import JaxalignError, unknown_name

_NAMES = {"imagenet": "imagenet.txt", "imagenet-torchhub": "imagenet_torchhub.txt"}
_TEMPLATES = {"ensemble": "imagenet_templates.txt", "subset": "imagenet_templates_subset.txt"}


def class_names(dataset: str = "imagenet", *, template: str | None = None) -> tuple[str, ...]:
    """The names of a data set's classes in the order of their labels, or prompts with them.

    "imagenet" has CLIP's 1,000 names, of which "missile" and "sunglasses" stand for two classes each.
    "imagenet-torchhub" has those of pytorch/hub's `imagenet_classes.txt`, which the published code of PCA<-
    embeds: 363 of them are others, 66 of these in upper and lower case alone, and there "crane" and "maillot"
    stand for two classes each. Sources and licences: `class_names/SOURCE.md` in the package.

    Args:
      dataset: "imagenet" or "imagenet-torchhub".
      template: None for the bare names; otherwise a text with one `{}`, such as "a photo of {}", the
        paper's for PCA<-.

    Raises:
      JaxalignError: a data set without names here, or a template without exactly one `{}`.

    Examples:
      >>> class_names("imagenet", template="a photo of {}")[0]
      'a photo of tench'
    """
    if dataset not in _NAMES:
        raise unknown_name("class names", dataset, _NAMES)
    names = _lines(_NAMES[dataset])
    if template is None:
        return names
    if template.count("{}") != 1:
        raise JaxalignError(
            f"the template is {template!r}; expected exactly one {{}} for the name, as in 'a photo of {{}}'"
        )
    return tuple(template.replace("{}", name) for name in names)


def imagenet_templates(which: str = "ensemble") -> tuple[str, ...]:
    """CLIP's prompt templates for ImageNet, each with one `{}`.

    `which`: "ensemble" for all 80, "subset" for the seven that do nearly as well. Raises JaxalignError for
    another name.

    Examples:
      >>> import jaxalign as ja
      >>> ja.imagenet_templates()[0], len(ja.imagenet_templates("subset"))
      ('a bad photo of a {}.', 7)
    """
    if which not in _TEMPLATES:
        raise unknown_name("templates", which, _TEMPLATES)
    return _lines(_TEMPLATES[which])


@cache
def _lines(name: str) -> tuple[str, ...]:
    text = files("jaxalign").joinpath("class_names", name).read_text(encoding="utf-8")
    return tuple(text.splitlines())

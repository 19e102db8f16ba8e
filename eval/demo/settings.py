"""How much the demo measures."""

from dataclasses import dataclass

from jaxalign.errors import JaxalignError


@dataclass(frozen=True)
class DemoSettings:
    """The defaults are what fits into a minute and a half on two cores.

    Attributes:
      queries: at most so many held-out emoji are queries, with one picture each; None for all of them.
      training_names: so many training names, with all their pictures, on which bands and the rank are
        chosen and from which class means are taken.
      band_grid: the values of `k_top` and of `k_bottom` that are tried.
      ranks: the ranks of the text subspace that are tried.
      oti_steps: optimisation steps of the inversion to text.
      ovi_steps: of the inversion to image, which takes all patches through the tower at each step.
      ovi_queries: at most so many of the caption queries are inverted to image, evenly spaced.
      curve: step counts at which the mAP of an inversion is measured, as far as it has them.
      examples: queries that the report shows with their results.
    """

    queries: int | None = None
    training_names: int = 400
    band_grid: tuple[int, ...] = (0, 2, 4, 8, 16, 24, 32, 48)
    ranks: tuple[int, ...] = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96)
    oti_steps: int = 150
    ovi_steps: int = 50
    ovi_queries: int = 16
    curve: tuple[int, ...] = (0, 5, 10, 20, 35, 50, 75, 100, 150)
    examples: int = 8

    def __post_init__(self):
        for name in ("training_names", "oti_steps", "ovi_steps", "ovi_queries"):
            if getattr(self, name) < 1:
                raise JaxalignError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.queries is not None and self.queries < 2:
            raise JaxalignError(f"queries is {self.queries}; expected 2 or more, or None for all")
        if self.examples < 0:
            raise JaxalignError(f"examples is {self.examples}; expected 0 or more")

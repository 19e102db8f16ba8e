"""`jaxalign spectrum`: the spectra of the operators, and what their parts carry on a data set."""

from jaxalign.dual_encoder import DualEncoder
from jaxalign.eval.protocols.spectra import bands_of_the_spectrum, operator_spectra
from jaxalign.eval.tasks.methods import MethodOptions, find_method
from jaxalign.eval.tasks.runs import Result, Run
from jaxalign.eval.tasks.workspace import Workspace, model_settings

from .sweep import Sweeping, captions, labelled_pictures


def band_to_show(model: DualEncoder, band: tuple[int, int] | None) -> tuple[int, int]:
    """`band`, or the one printed for the model, or the one chosen from its spectrum."""
    printed = band or model.spec.band or None
    name = "isoclip" if printed else "isoclip-auto"
    return find_method(name, model, "image", MethodOptions(band=printed)).band or (0, 0)


def measure_spectra(workspace: Workspace, model: DualEncoder, band: tuple[int, int]) -> Run:
    """The run of protocol `spectrum`, as `operator_spectra` says."""
    settings = model_settings(model) | {"band": list(band)}
    return workspace.measure("spectrum", settings, lambda: operator_spectra(model.projectors, band))


def measure_parts(
    workspace: Workspace,
    model: DualEncoder,
    dataset: str,
    sweeping: Sweeping,
    width: int | None = None,
    step: int | None = None,
    modality: str = "image",
) -> Run:
    """The run of protocol `spectral-parts` on a data set's pictures or captions, as `bands_of_the_spectrum`
    says."""
    source = captions if modality == "text" else labelled_pictures
    pair, facts, examples = source(workspace, model, dataset, sweeping)
    settings = model_settings(model) | pair.settings | facts
    if modality == "text":
        settings["modality"] = modality
    settings |= {"width": width, "step": step, "max_queries": sweeping.max_queries}

    def compute() -> Result:
        query, gallery, query_labels, gallery_labels, exclude = examples()
        with workspace.stages.stage("parts", f"{model.name}: parts of the spectrum on {dataset}"):
            found = bands_of_the_spectrum(
                model.projectors,
                query,
                gallery,
                query_labels,
                gallery_labels,
                modality=modality,
                exclude_self=exclude,
                width=width,
                step=step,
            )
        return pair.name_left_out(found)

    return workspace.measure("spectral-parts", settings, compute)

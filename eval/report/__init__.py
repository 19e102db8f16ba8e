"""The HTML report: one self-contained file with tables, figures and examples."""

from jaxalign.eval.report.build import build_report as build_report
from jaxalign.eval.report.examples import prepared_splits as prepared_splits

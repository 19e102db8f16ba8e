"""The HTML report: one self-contained file with tables, charts and examples."""

from jaxalign.eval.report.build import build_report as build_report
from jaxalign.eval.report.content import Example as Example
from jaxalign.eval.report.content import InversionTrace as InversionTrace
from jaxalign.eval.report.content import ModelArrays as ModelArrays
from jaxalign.eval.report.content import Shown as Shown
from jaxalign.eval.report.findings import findings as findings
from jaxalign.eval.report.run_report import build_run_report as build_run_report

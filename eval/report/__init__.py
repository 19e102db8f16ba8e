"""The HTML report: one self-contained file with tables, charts and examples."""

from eval.report.build import build_report as build_report
from eval.report.content import Example as Example
from eval.report.content import InversionTrace as InversionTrace
from eval.report.content import ModelArrays as ModelArrays
from eval.report.content import Shown as Shown
from eval.report.findings import findings as findings
from eval.report.run_report import build_run_report as build_run_report

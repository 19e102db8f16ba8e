"""The main job: every method side by side on an embedded model and data set."""

from jaxalign.eval.demo.compare import run as run
from jaxalign.eval.demo.data import DemoSettings as DemoSettings

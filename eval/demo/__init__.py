"""The main job: every method side by side on an embedded model and data set."""

from eval.demo.run import run as run
from eval.demo.settings import DemoSettings as DemoSettings

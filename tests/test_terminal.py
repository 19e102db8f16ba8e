"""What is in a name reaches terminal, report and figures only escaped; JSON gives it back as it is."""

import ast
import io
import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_model
from PIL import Image

import jaxalign as ja
import jaxalign.eval
from jaxalign.eval import cli
from jaxalign.eval.cli.printing import print_facts, print_list, print_table
from jaxalign.eval.figures import drawable, save, to_svg
from jaxalign.eval.figures.look import panels, styled, title
from jaxalign.eval.files import json_text
from jaxalign.eval.paper.output import escape
from jaxalign.eval.report.page import render
from jaxalign.eval.terminal import Stages, open_console, say

BAD = "a\x1b]0;title\x07b\nc\x9bd\u202ee\u2028f\udcffg[bold]h[/red]:smile:\x00\x7f"
SHOWN = r"a\x1b]0;title\x07b\nc\x9bd\u202ee\u2028f\udcffg[bold]h[/red]:smile:\x00\x7f"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def assert_harmless(said):
    assert not OBEYED.search(said), OBEYED.search(said)


def test_lines_and_tables(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    say(BAD)
    print_table(BAD, [BAD, BAD], [[BAD, BAD]])
    thing = {"name": BAD, "available": BAD, "source": BAD, "licence": ""}
    print_list([thing], {BAD: lambda thing: BAD}, {BAD: BAD})
    print_facts(BAD, BAD, {"key": BAD})
    monkeypatch.setenv("COLUMNS", "119")  # where rows are no lines
    print_list([thing | {"name": "name", "source": "source"}], {"column": lambda thing: "fact"}, {})
    Stages().announce(BAD)
    said, error = capsys.readouterr()
    assert_harmless(said)
    assert (said.count(SHOWN), error) == (16, f"{SHOWN}\n")


def test_progress_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    stages = Stages()
    stages.console = open_console(out)
    stages.console.is_interactive = stages.console._force_terminal = True
    stages.console.width = 200
    with stages.stage("name", BAD):
        end = time.monotonic() + 10
        while SHOWN not in out.getvalue() and time.monotonic() < end:
            time.sleep(0.02)
    assert SHOWN in out.getvalue()
    assert "\x1b]0;" not in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["convert", f"/no{BAD[:-2]}", "out"], 1),
        (["datasets", f"folder:/{BAD[:-2]}"], 1),
        (["report", f"/no{BAD[:-2]}"], 1),
        (["demo", f"--no{BAD}"], 2),
        (["demo", "--seed", BAD], 2),
        (["classify", "--classifiers", BAD], 2),
        ([BAD], 2),
    ],
)
def test_errors(arguments, status, capsys):
    assert cli.main(arguments) == status
    said = capsys.readouterr().err
    assert_harmless(said)
    assert [line.startswith("jaxalign: error: ") for line in said.splitlines()].count(True) == 1
    assert said.splitlines()[-1].startswith("jaxalign: error: ")


def test_errors_of_the_system(capsys):
    assert cli.explain(OSError(2, "No such file", BAD)) == 1
    assert capsys.readouterr().err == f"jaxalign: error: No such file: {SHOWN}\n"


def test_json_gives_names_back():
    text = json_text({BAD: BAD})
    assert_harmless(text)
    assert json.loads(text) == {BAD: BAD}
    assert "\u5199" in json_text("\u5199")


def test_pages_figures_and_markdown(tmp_path, recwarn):
    page = render("page.html.j2", title=BAD, credits=BAD)
    page.encode()
    assert SHOWN in page
    assert not set("\x1b\x9b\u202e\u2028\x07") & set(page)
    with styled():
        figure, (ax,) = panels(1)
        title(figure, f"{BAD} $\\frac$ \u732b")
        ax.set_title(drawable(f"{BAD} $\\frac$"))
    save(figure, tmp_path / "x.png")
    assert_harmless(to_svg(figure))
    assert not [str(warning.message) for warning in recwarn]
    assert "\n" not in escape(BAD)


PRINTING = {"eval/terminal.py", "eval/interrupts.py"}


def test_nothing_is_printed_elsewhere():
    """Not by `print`, by a console of one's own or by a text that would not be escaped."""
    root = Path(jaxalign.eval.__file__).parent
    for file in root.rglob("*.py"):
        if f"eval/{file.relative_to(root).as_posix()}" in PRINTING:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            named = getattr(called, "id", "")
            assert named not in ("print", "Console", "Text"), f"{file}:{node.lineno}"


@pytest.mark.long
def test_a_folder_of_such_names(tmp_path, capfd):
    folder = tmp_path / "images"
    rng = np.random.default_rng(0)
    for name in (b"a\xff\x1b[31m", "b\n[bold]\u202e".encode()):
        (folder / os.fsdecode(name)).mkdir(parents=True)
        for i in range(3):
            image = Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8))
            image.save(folder / os.fsdecode(name) / f"{i}\x07\n\u202e.png")
        (folder / os.fsdecode(name) / "bad\x1b[2J\n.png").write_bytes(b"no image")
    ja.save(tiny_model("emoji-clip"), tmp_path / "model")
    given = ["--model", tmp_path / "model", "--dataset", f"folder:{folder}", "--unreadable", "leave-out"]
    given += ["--out", tmp_path / "runs", "--store", tmp_path / "store"]
    for command in (
        ["embed", *given[:6], *given[8:], "--json", tmp_path / "embed.json"],
        ["retrieve", *given, "--methods", "image-image", "--json", tmp_path / "retrieve.json"],
        ["sweep", *given, "--k-top", "0", "--k-bottom", "0", "2"],
        ["report", tmp_path / "runs"],
    ):
        assert cli.main([str(argument) for argument in command]) == 0
    said, error = capfd.readouterr()
    assert_harmless(said + error)
    assert "bad\\x1b[2J\\n.png" in said
    (tmp_path / "runs" / "report.html").read_text(encoding="utf-8")
    left_out = json.loads((tmp_path / "embed.json").read_text(encoding="utf-8"))["left_out"]
    assert sorted(left_out) == sorted(
        f"{os.fsdecode(name)}/bad\x1b[2J\n.png" for name in (b"a\xff\x1b[31m", "b\n[bold]\u202e".encode())
    )

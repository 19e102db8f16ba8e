"""The command line: exit statuses, one-line errors, and results that are whole or not there."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tyro
from command_options import options

from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.cli.printing import check_file, check_folder, write_json
from jaxalign.eval.datasets import DATASETS
from jaxalign.eval.terminal import Stages

COMMANDS = sorted(cli.COMMANDS)
# What a command cannot do without, as arguments and as fields.
REQUIRED = {
    "bake": (["a", "b"], {"original": "a", "dst": Path("b")}),
    "convert": (["a.pt", "b"], {"src": "a.pt", "dst": Path("b")}),
    "duplicates": (["photos"], {"folder": Path("photos")}),
    "export": (["--npy", "out"], {"npy": Path("out")}),
    "fetch": (["clip-vit-base-patch16"], {"repository": "clip-vit-base-patch16"}),
    "search": (["photos"], {"folder": Path("photos")}),
}


def jaxalign(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "jaxalign", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def single_line(text: str) -> str:
    """The only line of `text`."""
    assert text.count("\n") == 1, text
    return text.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_every_field(command, capsys):
    assert cli.main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "Examples:" in said
    assert f"jaxalign {command}" in said
    for name, hint in options(cli.COMMANDS[command]).items():
        is_positional = tyro.conf.Positional in getattr(hint, "__metadata__", ())
        assert is_positional or f"--{name.replace('_', '-')}" in said, name


def test_help_lists_the_commands(capsys):
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert all(any(line.startswith(f"  {command} ") for line in lines) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_frozen_dataclasses_that_the_options_mirror(command):
    kind = cli.COMMANDS[command]
    arguments, fields = REQUIRED.get(command, ([], {}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(**fields).json = Path("x")
    given = kind(**fields)
    assert cli.parse([command, *arguments]) == given
    if hasattr(given, "results"):
        results = dataclasses.replace(given.results, json=Path("x.json"))
        given = dataclasses.replace(given, results=results)
    else:
        given = dataclasses.replace(given, json=Path("x.json"))
    assert cli.parse([command, *arguments, "--json", "x.json"]) == given


def test_options_of_demo_reach_its_fields():
    got = cli.parse(["demo", "--out", "o", "--models", "a", "b", "--seed", "3", "--data-dir", "d"])
    assert got == cli.COMMANDS["demo"](out=Path("o"), models=("a", "b"), seed=3, data_dir=Path("d"))


def test_demo_hands_its_options_on_and_writes_the_metrics(monkeypatch, tmp_path):
    seen = {}

    def run(out, **options):
        seen.update(options, out=out)
        return {"model": "a"}

    monkeypatch.setattr("jaxalign.eval.demo.run", run)
    target = tmp_path / "metrics.json"
    assert cli.main(["demo", "--out", "o", "--models", "a", "--json", str(target)]) == 0
    assert seen == {"out": Path("o"), "models": ("a",), "data_dir": None, "store": None, "seed": 0}
    assert json.loads(target.read_text()) == {"model": "a"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], f"expected one of {{{', '.join(cli.COMMANDS)}}}; see `jaxalign --help`"),
        (["demoo"], "unknown command 'demoo'; did you mean 'demo'? see `jaxalign --help`"),
        (["--nope"], "unrecognized options: --nope; see `jaxalign --help`"),
        (
            ["models", "--jsn", "x"],
            "unrecognized options: --jsn, x (did you mean --json?); see `jaxalign models",
        ),
        (["embed", "x"], "unrecognized options: x; see `jaxalign embed --help`"),
        (["demo", "--seed", "x"], "error parsing --seed: seed is 'x'; expected an integer from 0 to"),
        (
            ["demo", "--seed", "-1"],
            "error parsing --seed: seed is '-1'; expected an integer from 0 to 4294967295",
        ),
        (["demo", "--seed", "4294967296"], "error parsing --seed: seed is '4294967296'; expected an integer"),
        (["reproduce"], "which table? Expected a name of `jaxalign reproduce --list`"),
        (["classify", "--classifiers", "tip-x"], "tip-x compares images by class names; add --with-text"),
        (["classify", "--classifiers"], "--classifiers and --methods need one name at least"),
        (["search", "x", "--query", "y", "--first", "0"], "--first is 0; expected 1 or more"),
        (["datasets", "--data-dir"], "missing value for argument '--data-dir'. Expected 1 values; see"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert single_line(said.err).startswith(f"jaxalign: error: {message}")


@pytest.mark.long
def test_a_closed_standard_output_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["models", "--json", str(tmp_path / "models.json")]) == 0


def test_names_in_no_encoding_are_written(tmp_path, capsys):
    """Bytes of a file name that are no UTF-8 are surrogates in Python; brackets are no markup."""
    name = os.fsdecode(b"caf\xe9.jpg")
    write_json(tmp_path / "names.json", {name: "\u5199"})
    text = (tmp_path / "names.json").read_text(encoding="utf-8")
    assert json.loads(text) == {name: "\u5199"}
    assert "\u5199" in text
    Stages().announce("folder:cl[/red] [old]")
    assert "folder:cl[/red] [old]" in capsys.readouterr().err


def test_a_box_becomes_one_line_however_it_is_drawn():
    drawn = """╭─ Unrecognized options ─────────────╮
│ Unrecognized options: --jsn, x and │
│ more                               │
│ ────────────────────────────────── │
│ Perhaps you meant:                 │
│     --json {None}|STR              │
│ ────────────────────────────────── │
│ For full helptext, run x --help    │
╰────────────────────────────────────╯
"""
    plain = """ Unrecognized options
 ------------------------------------
  Unrecognized options: --jsn, x and
  more
  -----------------------------------
  Perhaps you meant:
      --json {None}|STR
  -----------------------------------
  For full helptext, run x --help

"""
    expected = "unrecognized options: --jsn, x and more (did you mean --json?)"
    assert cli.usage_error(drawn) == cli.usage_error(plain) == expected
    assert cli.usage_error("no box at all\n") == "no box at all"
    assert cli.usage_error("") == ""


KEPT = "what is finished is kept and nothing half-written is used: run the same command again to go on"
INTERRUPTED = f"interrupted; {KEPT}"


def failing(error: BaseException):
    @dataclasses.dataclass(frozen=True)
    class Failing:
        def run(self) -> None:
            raise error

    return {"fail": Failing}


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (JaxalignError("k is 3; expected 2"), 1, "k is 3; expected 2"),
        (OSError(28, "No space left on device", "/data/x"), 1, "No space left on device: /data/x"),
        (OSError("odd"), 1, "odd"),
        (
            ValueError("invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'"),
            1,
            "invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'; see the environment variables"
            " that begin with JAX_",
        ),
        (
            RuntimeError("Unable to initialize backend 'x': it is not known"),
            1,
            "Unable to initialize backend 'x': it is not known; see the environment variables that begin"
            " with JAX_",
        ),
        (
            RuntimeError("Could not determine home directory."),
            1,
            "the user has no home folder; set HOME, and JAXALIGN_STORE for features",
        ),
        (KeyboardInterrupt(), 130, INTERRUPTED),
    ],
)
def test_failures_are_one_line(error, status, message, monkeypatch, capsys):
    monkeypatch.setattr(cli, "COMMANDS", failing(error))
    assert cli.main(["fail"]) == status
    assert single_line(capsys.readouterr().err) == f"jaxalign: error: {message}"


def test_what_other_programs_are_told_is_left_out_of_the_environment(monkeypatch, capsys):
    for name in (
        "JAX_NUMPY_DTYPE_PROMOTION",
        "JAX_NUMPY_RANK_PROMOTION",
        "JAX_TRANSFER_GUARD_HOST_TO_DEVICE",
        "MPLBACKEND",
    ):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setattr(sys, "argv", ["jaxalign", "--version"])
    assert cli.main() == 0
    assert [name for name in os.environ if "PROMOTION" in name or "GUARD" in name or "MPL" in name] == []
    assert os.environ["JAX_ENABLE_X64"] == "1"


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, "COMMANDS", failing(ValueError("not ours")))
    with pytest.raises(ValueError, match="not ours"):
        cli.main(["fail"])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("missing/x.json", "there is no folder"),
        ("folder", "it is a folder"),
        ("file/x.json", "there is no folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_an_error_before_the_work(target, message, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    assert cli.main(["datasets", "--json", str(tmp_path / target)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert message in single_line(said.err)


def test_check_folder_makes_nothing(tmp_path):
    check_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxalignError, match=r"cannot write to the folder .*Not a directory"):
        check_folder(tmp_path / "file" / "a")


def test_json_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "x.json"
    write_json(target, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(target, {"a": float("nan")})
    assert json.loads(target.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]
    write_json(None, object())
    check_file(None)


@pytest.mark.long
def test_json_goes_to_a_pipe():
    run = jaxalign("datasets", "--json", "/dev/stderr")
    assert run.returncode == 0
    assert [row["name"] for row in json.loads(run.stderr)] == list(DATASETS)


def test_starting_is_quick_and_imports_neither_jax_nor_tfds():
    code = (
        "import sys; from jaxalign.eval.cli import main; assert main(['demo', '--help']) == 0; "
        "assert not {'jax', 'flax', 'tensorflow_datasets', 'matplotlib', 'PIL'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_version_and_exit_statuses_of_the_process():
    version = jaxalign("--version")
    assert version.returncode == 0
    assert single_line(version.stdout).startswith("jaxalign 0.")
    assert jaxalign("demoo").returncode == 2
    failed = jaxalign("datasets", "--json", "/dev/null/x.json")  # below what is no folder
    assert (failed.returncode, failed.stdout) == (1, "")
    single_line(failed.stderr)


def test_a_closed_pipe_is_quiet():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "jaxalign", "datasets"]
    run = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert run.returncode in (0, 1)
    assert run.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("argument", ["datasets", "--help"])
@pytest.mark.long
def test_a_full_disk_is_one_line(argument):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "jaxalign", argument]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1
    assert single_line(run.stderr) == "jaxalign: error: No space left on device"


@pytest.mark.long
def test_interrupting_while_preparing_is_one_line(tmp_path):
    code = (
        "import dataclasses, os, signal, sys\n"
        "import jaxalign.eval.datasets\n"
        "from jaxalign.eval import cli\n"
        "from jaxalign.eval.datasets.emoji import sprites\n"
        "read = sprites.read_sprites\n"
        "def interrupted(split):\n"
        "    yield next(read(split))\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    yield next(read(split))\n"
        "sprites.read_sprites = interrupted\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have it ignored
        "@dataclasses.dataclass(frozen=True)\n"
        "class Prepare:\n"
        f"    run = lambda self: jaxalign.eval.datasets.prepare('emoji', {str(tmp_path)!r})\n"
        "cli.COMMANDS = {'prepare': Prepare}\n"
        "sys.exit(cli.main(['prepare']))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = (128 + signal.SIGINT, f"jaxalign: error: {INTERRUPTED}")
    assert (run.returncode, single_line(run.stderr)) == expected
    assert not list((tmp_path / "emoji").iterdir())


@pytest.mark.long
def test_json_on_standard_output_is_all_that_is_there(capsys):
    assert cli.main(["models", "--json", "-"]) == 0
    said = capsys.readouterr()
    assert "emoji-clip" in {model["name"] for model in json.loads(said.out)}
    assert "emoji-clip" in said.err
    assert cli.main(["models"]) == 0
    assert "emoji-clip" in capsys.readouterr().out

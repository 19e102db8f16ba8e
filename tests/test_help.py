"""What `--help` says, and how: on one screen, in groups, wrapped, each option's text a whole."""

import re
import subprocess

import pytest
from command_options import options

from jaxalign.eval import cli
from jaxalign.eval.cli.help_pages import GROUPS, overview, summary

COMMANDS = sorted(cli.COMMANDS)
# Words that only mean something after another one: a text that begins so does not stand alone.
DANGLING = {
    "of",
    "from",
    "to",
    "only",
    "which",
    "one",
    "where",
    "what",
    "whose",
    "how",
    "whether",
    "at",
    "also",
    "with",
    "these",
}


def shown(capsys, *arguments: str) -> str:
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


def test_all_commands_fit_a_screen(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, "--help").splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 80
    assert shown(capsys, "-h").splitlines() == lines


def test_every_command_is_in_one_group():
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    assert set(COMMANDS) <= set(grouped)


def test_a_command_of_no_group_is_listed_all_the_same():
    said = overview({**cli.COMMANDS, "new": cli.COMMANDS["demo"]})
    assert re.search(r"^more:\n  new  ", said, re.M)
    assert "more:" not in overview(cli.COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [60, 80, 132])
def test_help_of_a_command_is_wrapped_at_the_width_of_the_terminal(command, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = shown(capsys, command, "--help").splitlines()
    examples = [line for line in lines if line.startswith("  jaxalign ")]  # which can be copied whole
    assert max(len(line) for line in lines if line not in examples) <= width
    assert lines[0].startswith(summary(cli.COMMANDS[command]).rstrip(".")[: width // 2])
    assert lines.index("Examples:") <= 4
    assert all(
        re.match(r"╭─ ([a-z ]+ )?(options|arguments|mutually exclusive) ─", line)
        for line in lines
        if "╭" in line and width < 130
    )


def test_every_text_of_an_option_stands_alone():
    for command, kind in cli.COMMANDS.items():
        for name, hint in options(kind).items():
            (text,) = [arg.help for arg in hint.__metadata__ if getattr(arg, "help", None)]
            assert text[0].isupper(), (command, name, text)
            assert text.endswith("."), (command, name, text)
            assert text.split()[0].lower().rstrip(",:") not in DANGLING, (command, name, text)


def test_a_shell_completes_commands_and_options(capsys):
    script = shown(capsys, "--completion", "bash")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert "text-retrieve" in script
    assert "--class-texts" in script
    assert shown(capsys, "--completion", "zsh").startswith("#compdef jaxalign")


@pytest.mark.parametrize(
    ("given", "got"), [((), "none"), (("fisch",), "fisch"), (("bash", "zsh"), "bash zsh")]
)
def test_a_shell_that_is_not_known_is_bad_usage(given, got, capsys):
    assert cli.main(["--completion", *given]) == 2
    assert capsys.readouterr().err.startswith(f"jaxalign: error: --completion got {got}; expected one shell")

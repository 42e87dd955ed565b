"""Commands in the documents: each is one that there is, with options, keys and targets that there are.

Most need a cluster, a person's process or an hour. What runs them as they stand is said beside each kind in `RULES`.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from diagnosis.doctor.preflight import OLDEST_KERNEL
from infra.outputs import ABOUT
from infra.settings import DEFAULTS, SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{path.name} {number}")
    for path in DOCUMENTS
    for number, block in enumerate(BLOCK.findall(path.read_text()), 1)
]
PULUMI = {"up", "install", "destroy", "login", "stack", "config"}
INSTALLED = Path(sys.executable).with_name("memleak-lab")


def commands(block: str) -> Iterator[list[str]]:
    """Every simple command of a block, without what is set before it and without sudo."""
    # A substitution is a command of its own; within quotes it stays a part of a word.
    text = block.replace("\\\n", " ").replace("$(", " ; ")
    lexer = shlex.shlex(text.replace("\n", " ;\n"), posix=True, punctuation_chars=";&|")
    lexer.wordchars += "{}$@*:,<>()[]!?^"
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set(";&|"):
            while words and (words[0] == "sudo" or re.match(r"\w+=", words[0])):
                words.pop(0)
            if words:
                yield words
            words = []
        else:
            words.append(token)


def makefile_has(words: list[str]) -> None:
    """Run as they stand by .ci/run (test, test-system), tests/lab (lab) and by whoever makes a release."""
    target = words[1]
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def pulumi_has(words: list[str]) -> None:
    """The life of a stack is run by tests/e2e."""
    assert words[1] in PULUMI
    if words[1] == "config":
        keys = [word for word in words[3:] if not word.startswith("--")]
        assert keys[0] in DEFAULTS
        assert ("--secret" in words) == (keys[0] in SECRETS)
    if words[1:3] == ["stack", "output"]:
        assert set(words[3:]) <= set(ABOUT)


def memleak_lab_has(words: list[str]) -> None:
    """Commands and options are run by tests/tool and tests/lab, on processes of their own."""
    known = subprocess.run([INSTALLED, words[1], "--help"], capture_output=True, text=True, check=True).stdout
    plain = re.sub(r"\x1b\[[0-9;]*m", "", known)
    for option in (word for word in words if word.startswith("--")):
        assert option in plain, option


def file_is_there(words: list[str]) -> None:
    """Run by tests/system/tools and tests/bpftrace."""
    assert (ROOT / words[1]).exists()


def anything(words: list[str]) -> None:
    """Another project's command: make guide runs the tools; clouds and clusters of others are nobody's to run here."""
    assert words


RULES: dict[str, Callable[[list[str]], None]] = {
    "make": makefile_has,
    "pulumi": pulumi_has,
    "memleak-lab": memleak_lab_has,
    "python3": file_is_there,
    **dict.fromkeys(
        ("git", "cd", "kubectl", "of_pod", "of_pod()", "minikube", "az", "aws", "docker", "gcloud", "cosign"), anything
    ),
    **dict.fromkeys(("ig", "flamegraph.pl", "cut", "apt-get", "memleak-bpfcc", "perf"), anything),
    **dict.fromkeys(("for", "do", "done", "cp", "ls", "tail", "mktemp", "}"), anything),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_is_shell_and_its_commands_exist(block: str) -> None:
    # What stands for a name of the reader's own is no redirection.
    checked = subprocess.run(["sh", "-n"], input=re.sub(r"<[\w ]+>", "NAME", block), text=True, check=False)
    assert checked.returncode == 0
    for words in commands(block):
        assert words[0] in RULES, words
        RULES[words[0]](words)


@pytest.mark.parametrize("block", [block for block in BLOCKS if "pulumi stack rm" in str(block.values[0])])
def test_a_block_that_removes_the_stack_of_this_repository_keeps_its_file(block: str) -> None:
    # Pulumi.dev.yaml is tracked; the stack of another name has a file of its own, which goes with it.
    assert "pulumi stack select" in block or "pulumi stack rm --preserve-config" in block


def test_the_oldest_kernel_is_the_same_everywhere() -> None:
    oldest = ".".join(map(str, OLDEST_KERNEL))
    named = {
        (path.name, version)
        for path in DOCUMENTS
        for version in re.findall(r"(?:Linux|[Kk]ernels?)(?: from)? (\d\.\d+)(?: or newer| on\b|\.$)", path.read_text())
    }
    assert {version for _, version in named} == {oldest}, named
    assert {name for name, _ in named} >= {"README.md", "INSTALL.md", "EBPF_GUIDE.md"}


def test_settings_in_running_text_exist_too() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    for path in DOCUMENTS:
        for key in re.findall(r"pulumi config set(?: --secret)?\s+([a-z]\w+)", path.read_text()):
            assert key in project["config"], f"{path.name}: {key}"


def test_the_command_is_linked_and_no_other_program_is_replaced(tmp_path: Path) -> None:
    folder, command = tmp_path / "bin", tmp_path / "memleak-lab"
    folder.mkdir()
    link = [ROOT / "scripts" / "link", command, folder]
    subprocess.run(link, check=True)
    subprocess.run(link, check=True)
    assert (folder / "memleak-lab").readlink() == command
    (folder / "memleak-lab").unlink()
    (folder / "memleak-lab").write_text("another program")
    assert subprocess.run(link, check=False, capture_output=True).returncode == 1

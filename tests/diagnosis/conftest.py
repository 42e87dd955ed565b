from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from diagnosis.cli import main as cli
from diagnosis.cli import run as cli_run
from diagnosis.cli import trace as cli_trace
from diagnosis.doctor import preflight
from diagnosis.doctor.preflight import Machine
from tests.diagnosis.walking import CHAIN, HEADER, WALK
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def chain(folder: Path) -> Path:
    """inner < middle < main, with debug information and a build id."""
    return compile_c(WALK + HEADER + CHAIN, folder / "chain", "-g", "-Wl,--build-id=0x0badcafe00")


@pytest.fixture
def own_signal_handlers() -> Iterator[None]:
    """The command takes over signals: they are given back after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def memleak_lab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own_signal_handlers: None
) -> Command:
    """Run the command in this process: exit status, standard output and standard error."""
    del own_signal_handlers

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["memleak-lab", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def able(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], None]:
    """A machine that has everything; call it with another one to have that."""
    monkeypatch.setattr(preflight, "_load_program", lambda: "in this test")
    for name in ("kernel/btf/vmlinux", "bus/event_source/devices/uprobe/type"):
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True)
        path.touch()

    def use(machine: Machine) -> None:
        for module in (cli, cli_run, cli_trace):
            monkeypatch.setattr(module, "Machine", lambda: machine)

    use(Machine("Linux", "x86_64", "6.12.0", 0, {}, tmp_path / "sys"))
    return use

from __future__ import annotations

import errno
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from heap_trace import TraceError

from diagnosis.base.errors import LabError
from diagnosis.cli.options import on_a_machine_that_can
from diagnosis.doctor import preflight
from diagnosis.doctor.preflight import Machine, check_machine
from diagnosis.target.parser.client import Parser

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from diagnosis.doctor.preflight import Check


@pytest.fixture
def able(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that has everything, and a kernel that takes the program."""
    for name in ("kernel/btf/vmlinux", "bus/event_source/devices/uprobe/type", "kernel/tracing/uprobe_events"):
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True)
        path.write_text("8\n")
    monkeypatch.setattr(preflight, "_load_program", lambda: "as said in the test")
    return Machine("Linux", "x86_64", "6.12.0-amd64", 0, {}, tmp_path / "sys", tmp_path / "proc")


def missing(machine: Machine) -> Check:
    """The one check that fails. Nothing is loaded where one does."""
    checks = check_machine(machine)
    (found,) = [check for check in checks if not check.ok]
    assert "eBPF program" not in {check.name for check in checks}
    assert "\n" not in found.found
    assert found.remedy
    assert "\n" not in found.remedy
    assert not any(check.remedy for check in checks if check.ok)
    return found


def test_a_machine_that_has_everything_is_told_so_by_the_kernel(able: Machine) -> None:
    checks = check_machine(able)
    assert all(check.ok for check in checks)
    assert checks[-1].found == "the kernel takes it: as said in the test"
    assert len({check.name for check in checks}) == 6


def test_no_root(able: Machine) -> None:
    check = missing(replace(able, euid=1000))
    assert (check.name, check.found) == ("privileges", "uid 1000")
    assert "sudo" in check.remedy


def test_no_btf(able: Machine) -> None:
    path = able.sys / "kernel/btf/vmlinux"
    path.unlink()
    check = missing(able)
    assert (check.name, check.found) == ("kernel types (BTF)", f"{path} is missing")
    assert "CONFIG_DEBUG_INFO_BTF" in check.remedy


@pytest.mark.parametrize("gone", ["bus/event_source/devices/uprobe/type", "kernel/tracing/uprobe_events"])
def test_one_way_to_uprobes_is_enough(able: Machine, gone: str) -> None:
    (able.sys / gone).unlink()
    assert all(check.ok for check in check_machine(able))


def test_no_uprobe_event_source_and_no_tracefs(able: Machine) -> None:
    for name in ("bus/event_source/devices/uprobe/type", "kernel/tracing/uprobe_events"):
        (able.sys / name).unlink()
    check = missing(able)
    assert check.name == "uprobes"
    assert "tracefs" in check.found
    assert "mount -t tracefs" in check.remedy


@pytest.mark.parametrize(
    ("kernel", "ok"),
    [
        ("5.15.0-91-generic", True),
        ("5.14.0-427.el9.x86_64", False),
        ("4.19.0", False),
        ("6.1.0-13-amd64", True),
        ("10.0", True),
        ("unknown", False),
    ],
)
def test_the_kernel_is_new_enough_or_not(able: Machine, kernel: str, ok: bool) -> None:
    machine = replace(able, kernel=kernel)
    if ok:
        assert all(check.ok for check in check_machine(machine))
    else:
        assert (missing(machine).name, missing(machine).found) == ("kernel", kernel)
        assert "5.15" in missing(machine).remedy


@pytest.mark.parametrize(
    ("system", "architecture"), [("Linux", "armv7l"), ("Linux", "riscv64"), ("Darwin", "x86_64"), ("Linux", "i686")]
)
def test_another_system_or_architecture(able: Machine, system: str, architecture: str) -> None:
    check = missing(replace(able, system=system, architecture=architecture))
    assert (check.name, check.found) == ("system", f"{system} on {architecture}")
    assert "x86_64 or aarch64" in check.remedy


def test_arm64_is_fine(able: Machine) -> None:
    assert all(check.ok for check in check_machine(replace(able, architecture="aarch64")))


def refusing(error: Exception) -> Callable[[], str]:
    def load() -> str:
        raise error

    return load


@pytest.mark.parametrize(
    ("error", "said", "remedy"),
    [
        (OSError("the kernel refuses the eBPF program: Operation not permitted"), "not permitted", "CAP_BPF"),
        (
            OSError(errno.EMFILE, "the kernel refuses the eBPF program: Too many open files\nlibbpf: map"),
            "Too many open files; libbpf: map",
            "ulimit -n 1024",
        ),
        (ImportError("libbpf.so.1: cannot open shared object file"), "libbpf.so.1", "make install"),
    ],
)
def test_a_kernel_or_a_library_that_refuses_has_the_last_word(
    able: Machine, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, remedy: str
) -> None:
    monkeypatch.setattr(preflight, "_load_program", refusing(error))
    (check,) = [check for check in check_machine(able) if not check.ok]
    assert said in check.found
    assert remedy in check.remedy


def test_several_things_that_are_missing_are_all_named(able: Machine) -> None:
    checks = check_machine(replace(able, euid=1, kernel="3.10", sys=able.sys / "nowhere"))
    assert [check.name for check in checks if not check.ok] == ["kernel", "privileges", "kernel types (BTF)", "uprobes"]


@pytest.mark.ebpf
def test_this_machine_has_everything() -> None:
    checks = check_machine(Machine())
    assert all(check.ok for check in checks), checks
    assert checks[-1].name == "eBPF program"


def test_the_parser_is_confined_here() -> None:
    with Parser() as parser:
        check = preflight.check_parser(parser)
    assert check.ok
    assert "user" in check.found
    assert ("seccomp" in check.found) is (check.remedy == "")


def test_a_parser_that_does_not_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Parser() as parser:
        check = preflight.check_parser(parser)
    assert not check.ok
    assert check.found == "the parser did not start: it ended with status 1"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the check has loaded the program, which the kernel refuses."""
    asked: list[str] = []

    def load() -> str:
        asked.append("load")
        raise OSError("the kernel refuses the eBPF program: Operation not permitted")

    monkeypatch.setattr(preflight, "_load_program", load)
    return asked


def test_a_machine_is_asked_to_load_a_program_only_after_one_was_refused(able: Machine, loads: list[str]) -> None:
    with on_a_machine_that_can(able):
        pass
    with pytest.raises(LabError, match="has ended"), on_a_machine_that_can(able):
        raise LabError("pid 1 has ended") from FileNotFoundError()
    assert loads == []
    with pytest.raises(LabError, match=r"eBPF program: .* not permitted"), on_a_machine_that_can(able):
        raise LabError("tracing pid 1 failed") from TraceError(-errno.EPERM)
    with pytest.raises(LabError, match=r"eBPF program: .* not permitted"), on_a_machine_that_can(able):
        raise ImportError("libbpf.so.1: cannot open shared object file")
    assert len(loads) == 2


def test_what_a_machine_lacks_is_said_before_anything_begins(able: Machine) -> None:
    with pytest.raises(LabError, match="privileges"), on_a_machine_that_can(replace(able, euid=1000)):
        pytest.fail("it began")


def test_what_goes_wrong_on_a_machine_that_lacks_nothing_is_said_as_it_is(
    able: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_load_program", lambda: "one program")
    with pytest.raises(LabError, match="tracing pid 1 failed"), on_a_machine_that_can(able):
        raise LabError("tracing pid 1 failed") from TraceError(-errno.E2BIG)

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diagnosis.base.errors import LabError
from diagnosis.target.launch import Account, Launched
from diagnosis.target.objects import find_symbols
from diagnosis.target.process import Process
from tests.support.programs import compile_c
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="programs are started on x86-64 only")

# Its constructor leaves a file behind, as main does.
MARKS = """
    #include <fcntl.h>
    #include <stdlib.h>
    #include <unistd.h>
    static void mark(const char *name) { close(open(name, O_CREAT | O_WRONLY, 0600)); }
    __attribute__((constructor)) static void before_main(void) { mark("constructor"); }
    int main(int argc, char **argv) { (void)argv; mark("main"); return argc == 1 ? 7 : 0; }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def marks(folder: Path) -> set[str]:
    return {name for name in ("constructor", "main") if (folder / name).exists()}


@pytest.mark.parametrize("linking", ["-pie", "-no-pie", "-static", "-static-pie"])
def test_a_program_is_held_before_its_constructors_with_all_that_it_is_linked_to(folder: Path, linking: str) -> None:
    program = compile_c(MARKS, folder / "marks", linking)
    with Launched([str(program)]) as launched:
        mapped = {Path(each.path).name for each in launched.process.maps() if each.executable}
        assert "marks" in mapped
        assert ("libc.so.6" in mapped) is (not linking.startswith("-static"))
        time.sleep(0.1)  # for one that is not held
        assert marks(folder) == set()
        launched.resume()
        assert launched.ending(20) == f"{program} ended with exit status 7"
    assert marks(folder) == {"constructor", "main"}


def test_nothing_of_the_stop_is_left_in_the_program() -> None:
    """No tracer, and the dynamic linker's code as it is in its file."""
    with Launched(["sleep", "60"]) as launched:
        process = launched.process
        linker = next(each for each in process.maps() if each.executable and "/ld-" in each.path)
        code = process.open_path(linker).read_bytes()[linker.offset : linker.offset + linker.end - linker.start]
        launched.resume()
        try:
            with Path(f"/proc/{process.pid}/mem").open("rb") as memory:
                memory.seek(linker.start)
                assert memory.read(len(code)) == code
            status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            assert "TracerPid:\t0" in status
            assert "runs on, without probes" in launched.ending(0.1)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            assert launched.ending(20) == "sleep was ended by SIGKILL"


@pytest.mark.parametrize(("number", "name"), [(int(signal.SIGTERM), "SIGTERM"), (40, "signal 40")])
def test_a_signal_is_named_also_a_real_time_one_that_has_no_name(number: int, name: str) -> None:
    with Launched(["sh", "-c", f"kill -{number} $$"]) as launched:
        pass
    assert launched.ending(20) == f"sh was ended by {name}"


def test_leaving_lets_the_program_run(folder: Path) -> None:
    with Launched([str(compile_c(MARKS, folder / "marks"))]) as launched:
        pass
    assert launched.ending(20).endswith("ended with exit status 7")


@pytest.mark.parametrize("runs", [True, False])
def test_leaving_by_an_error_ends_the_program(*, runs: bool) -> None:
    launched = Launched(["sleep", "60"])
    if runs:
        launched.resume()
    with pytest.raises(LabError, match="no trace"), launched:
        raise LabError("no trace")
    assert launched.ending(20) == f"sleep was ended by {'SIGTERM' if runs else 'SIGKILL'}"


def test_a_signal_that_comes_while_it_is_held_is_the_programs() -> None:
    with Launched(["sleep", "60"]) as launched:
        os.kill(launched.process.pid, signal.SIGTERM)
    assert launched.ending(20) == "sleep was ended by SIGTERM"


@pytest.mark.root
def test_a_program_runs_as_the_account_that_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with Launched(["sh", "-c", "id -u; id -g; echo $USER"], Account("nobody", 65534, 65534)) as launched:
        launched.resume()
        assert launched.ending(20) == "sh ended with exit status 0"
    assert capfd.readouterr().out.split() == ["65534", "65534", "nobody"]


def test_a_program_that_is_not_there_is_one_line() -> None:
    with pytest.raises(LabError, match=r"^/not/there is no program that can be run: "):
        Launched(["/not/there"])


def test_a_file_that_the_kernel_does_not_run_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "noise"
    path.write_bytes(b"\x7fELF" + bytes(100))
    path.chmod(0o755)
    with pytest.raises(LabError, match=r"noise did not start: .* ended with exit status 1: run it without") as caught:
        Launched([str(path)])
    assert "\n" not in str(caught.value)
    assert "cannot be run" in capfd.readouterr().err


def test_a_program_that_was_not_let_go_ends_with_the_one_that_holds_it() -> None:
    holder = (
        "from diagnosis.target.launch import Launched; held = Launched(['sleep', '60']);"
        "print(held.process.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        held = Process(int(process.stdout.readline()))
        assert held.alive()
        process.kill()
        process.wait()
        wait_until(lambda: not held.alive(), "the held program ends")


def test_exported_variables_have_addresses() -> None:
    linker = next(each for each in Process(os.getpid()).code_maps() if "/ld-" in each.path)
    found = find_symbols(Path(linker.path), [], ["_r_debug", "no_such_variable"])
    assert found.variables.keys() == {"_r_debug"}
    assert found.variables["_r_debug"].address > 0

"""C that Go calls: the functions of Go that called it are on the stack, which lies on two stacks or more."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from heap_trace import Ending, UnwindMode

from diagnosis.report.site import call_site
from tests.trace.tracing import PROGRAMS, Target, count
from tests.trace.unwinding import unwinding

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trace.tracing import Closing
    from tests.trace.unwinding import Named

pytestmark = [pytest.mark.root, pytest.mark.ebpf]

GO = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin") or shutil.which("go", path="/usr/lib/go/bin")

# What main.go does of everything, and how deep needsRoom() calls itself.
TIMES = 7
DEPTH = 64


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program. Where nothing was built with cgo before, Go compiles its own packages at first: a minute."""
    if not GO:
        pytest.skip("go is not installed: https://go.dev/dl")
    output = tmp_path_factory.mktemp("cgo") / "cgo"
    environment = os.environ | {"CGO_ENABLED": "1", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    command = [GO, "build", "-trimpath", "-buildvcs=false", "-o", str(output), "."]
    done = subprocess.run(command, cwd=PROGRAMS / "cgo", env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return output


# By this Go's runtime maps memory, whenever it likes.
MAPS = "x_cgo_mmap"


@pytest.fixture(params=[UnwindMode.ON, UnwindMode.COMPARE], ids=["memo", "compare"])
def stacks(request: pytest.FixtureRequest, program: Path, closing: Closing) -> tuple[Named, ...]:
    """The stacks between the program's two stops, without those by which Go's runtime maps memory for its own heap."""
    with Target([program]) as target, unwinding(target, closing, mode=request.param) as unwinder:
        target.go()
        assert unwinder.trace.unwound().mismatches == 0
        return tuple(stack for stack in unwinder.named() if MAPS not in stack.names)


def with_(stacks: tuple[Named, ...], name: str) -> Named:
    """The only stack that has this function."""
    (found,) = (stack for stack in stacks if name in stack.names)
    return found


def own(stack: Named) -> list[str]:
    """The functions of the program and the end, without those of Go's runtime in between and cgo's."""
    return [
        name
        for name in stack.names
        if not name.startswith(("runtime.", "_cgo")) and "._Cfunc_" not in name and "._cgo_" not in name
    ]


def test_each_function_of_go_that_calls_a_leaking_one_of_c_is_named(stacks: tuple[Named, ...]) -> None:
    assert own(with_(stacks, "main.keepsOrders")) == ["keeps", "main.keepsOrders", "main.main"]
    assert own(with_(stacks, "main.keepsUsers")) == ["keeps", "main.keepsUsers", "main.main.func1"]
    assert own(with_(stacks, "main.keepsNames")) == ["main.keepsNames", "main.main"]


def test_stacks_of_goroutines_are_whole(stacks: tuple[Named, ...]) -> None:
    assert {(stack.names[-1], stack.ending, stack.allocations) for stack in stacks} == {
        ("runtime.goexit.abi0", Ending.START, TIMES)
    }


def test_a_callback_goes_on_in_c_and_in_the_go_below_it(stacks: tuple[Named, ...]) -> None:
    """By then the goroutine's stack was copied, and the frame pointer that C has kept leads to the old one."""
    callback = with_(stacks, "main.comesBack")
    below = ["main.comesBack", "crosscall2", "comesBack", "calls_go", "main.throughC", "main.main.func2"]
    assert own(callback) == ["keeps", *["main.needsRoom"] * (DEPTH + 1), *below]
    assert callback.names.count("runtime.asmcgocall.abi0") == 2


def test_the_report_names_the_callers(program: Path, closing: Closing) -> None:
    with Target([program]) as target, closing.tracing(target) as tracer:
        target.go()
        counted = count(tracer)
    blocks = [stack.frames for stack, _ in counted.stacks if stack.frames[0].function != MAPS]
    assert {call_site(frames) for frames in blocks} == {
        ("keeps", "main.keepsOrders"), ("keeps", "main.keepsUsers"), ("keeps", "main.needsRoom"),
        ("main.keepsNames", "main.main"),
    }  # fmt: skip

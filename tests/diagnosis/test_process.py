from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.target.mapping import Mapping
from diagnosis.target.process import PROC, Process, Resident
from tests.diagnosis.recorded import PID, end, record
from tests.support.programs import answer, compile_c, running
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

THREAD = """
import sys, threading
threading.Thread(target=lambda: print(threading.get_native_id(), flush=True) or sys.stdin.read(1)).start()
"""
FIRST_THREAD_ENDS = """
    #include <pthread.h>
    #include <stdio.h>
    static void *stays(void *unused) { (void)unused; puts("there"); fflush(stdout); getchar(); return 0; }
    int main(void) { pthread_t thread; pthread_create(&thread, 0, stays, 0); pthread_exit(0); }
"""
LIBC = "7f00a000-7f00b000 r-xp 00026000 fd:01 131 {path}\n"


def mapping_of(path: Path, inode: int | None = None) -> Mapping:
    """What maps says of a file in the recorded process's root directory."""
    return Mapping(0x7F00A000, 0x7F00B000, "r-xp", 0, "fd:01", inode or path.stat().st_ino, "/lib/libc.so.6")


@pytest.mark.parametrize("pid", [0, -1, 3_999_999_999])
def test_a_pid_that_does_not_exist_is_one_line_with_a_remedy(pid: int) -> None:
    with pytest.raises(LabError) as caught:
        Process(pid)
    assert str(caught.value).startswith(f"pid {pid} does not exist: ")
    assert "\n" not in str(caught.value)


def test_the_command_line_is_joined_with_blanks(tmp_path: Path) -> None:
    assert record(tmp_path, cmdline=b"python\0-m\0service\0\0").command == "python -m service"


def test_a_process_without_a_command_line_goes_by_its_name_in_brackets(tmp_path: Path) -> None:
    assert record(tmp_path, cmdline=b"").command == "[catalog]"


def test_a_command_line_that_is_no_utf_8_is_still_a_text(tmp_path: Path) -> None:
    assert record(tmp_path, cmdline=b"caf\xe9\0").command.startswith("caf")


def test_the_children_of_every_thread_are_children_of_the_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in Process(os.getpid()).children()
        child.kill()


def test_an_exec_makes_another_program_of_a_process() -> None:
    becomes = (
        "import os, sys; input(); os.execv(sys.executable, [sys.executable, '-c', 'print(1, flush=True); input()'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", becomes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as child:
        assert child.stdin
        assert child.stdout
        process = Process(child.pid)
        before = process.program()
        assert before
        assert process.program() == before
        child.stdin.write(b"\n")
        assert child.stdout.readline()
        assert process.program() not in ((), before)
        child.kill()
        child.wait()
        assert process.program() == ()


def stat_line(*, flags: int, stack: int) -> str:
    """A process's stat, as far as what tells its program."""
    return f"{PID} (catalog) R 1 {PID} {PID} 0 -1 {flags}" + " 0" * 16 + f" 4096 8192 {stack} 0\n"


def test_in_the_middle_of_an_exec_the_new_program_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = record(tmp_path)
    stat = tmp_path / str(PID) / "stat"
    stat.write_text(stat_line(flags=0, stack=0))
    monkeypatch.setattr(time, "sleep", lambda _: stat.write_text(stat_line(flags=0, stack=7)))
    assert process.program() == ("4096", "7")


def test_a_process_that_has_given_up_its_memory_has_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = record(tmp_path)
    (tmp_path / str(PID) / "stat").write_text(stat_line(flags=4, stack=0))
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it was waited for"))
    assert process.program() == ()


def test_resident_memory_is_in_bytes(tmp_path: Path) -> None:
    assert record(tmp_path).resident() == Resident(512 * 1024, 256 * 1024)


def test_resident_memory_of_this_process_is_what_statm_says() -> None:
    pages = int((Process(os.getpid())._root / "statm").read_text().split()[1])
    assert Process(os.getpid()).resident().total_bytes == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), rel=0.1)


@pytest.mark.parametrize(
    ("state", "alive"), [("R", True), ("S", True), ("D", True), ("T", True), ("Z", False), ("X", False)]
)
def test_a_zombie_is_not_alive(tmp_path: Path, state: str, alive: bool) -> None:
    assert record(tmp_path, state=state).alive() is alive


def test_a_thread_is_no_process() -> None:
    with running(sys.executable, "-c", THREAD) as program:
        tid = int(answer(program))
        with pytest.raises(LabError, match=f"^pid {tid} is a thread of process {program.pid}: .*{program.pid}"):
            Process(tid)


def test_a_process_whose_first_thread_has_ended_lives(tmp_path: Path) -> None:
    """Its own maps, status and map_files are empty then: a living thread's are not."""
    with running(compile_c(FIRST_THREAD_ENDS, tmp_path / "ends", "-pthread")) as program:
        answer(program)
        process = Process(program.pid)
        wait_until(lambda: process.thread != program.pid, "the first thread has ended")
        assert process.alive()
        assert process.program()
        assert process.resident().total_bytes > 0
        (libc,) = [each for each in process.maps() if each.executable and "/libc.so" in each.path]
        assert process.open_path(libc).read_bytes()[:4] == b"\x7fELF"
        assert libc.file in process.mapped_code()
        assert process.command == str(tmp_path / "ends")
        program.kill()
        program.wait()
        assert not process.alive()
        assert process.program() == ()


def test_a_number_that_another_process_has_by_now_is_not_taken_for_it() -> None:
    """GIVEN a process that has ended and was reaped THEN its /proc entry is not looked at any more."""
    with running(sys.executable, "-c", "input()") as program:
        process = Process(program.pid)
        program.kill()
        program.wait()
    process._root = PROC / str(os.getpid())  # as if its number had been given to this process
    assert not process.alive()
    assert process.program() == ()
    for look in (process.resident, process.maps, process.mapped_code):
        with pytest.raises(LabError, match="has ended"):
            look()


def test_mapped_code_is_what_is_mapped_to_be_run(tmp_path: Path) -> None:
    maps = (
        "1000-2000 r--p 00000000 fd:01 130 /usr/bin/catalog\n"
        "2000-3000 r-xp 00001000 fd:01 130 /usr/bin/catalog\n"
        "4000-5000 r--p 00000000 fd:01 131 /lib/libdata.so\n"
        "5000-6000 rwxp 00000000 00:00 0\n"
        "6000-7000 rwxs 00000000 00:05 77 /memfd:jit (deleted)\n"
        "8000-9000 r-xp 00000000 00:00 0 [vdso]\n"
    )
    assert record(tmp_path, maps=maps).mapped_code() == {("fd:01", 130), ("00:05", 77)}


def test_the_processes_that_a_child_starts_are_descendants_too() -> None:
    grandchild = "import subprocess, sys; subprocess.run(['sleep', '60'])"
    with running(sys.executable, "-c", grandchild) as child:
        process = Process(os.getpid())
        wait_until(lambda: bool(Process(child.pid).children()), "the grandchild is there")
        (sleeping,) = Process(child.pid).children()
        try:
            assert sleeping not in process.children()
            assert {child.pid, sleeping} <= set(process.descendants())
        finally:
            os.kill(sleeping, signal.SIGKILL)


def test_a_process_that_has_ended_says_so(tmp_path: Path) -> None:
    process = record(tmp_path)
    end(tmp_path)
    assert not process.alive()
    for look in (process.resident, process.maps):
        with pytest.raises(LabError, match=f"pid {PID} has ended"):
            look()


def test_a_child_that_ended_and_was_not_waited_for_has_ended() -> None:
    """A zombie's maps are there and empty, as a kernel thread's are."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = Process(child.pid)
        assert process.maps()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not process.alive()
        for look in (process.resident, process.maps):
            with pytest.raises(LabError, match=f"pid {child.pid} has ended"):
                look()


def test_a_line_of_maps_is_read_field_by_field(tmp_path: Path) -> None:
    process = record(tmp_path, maps="7f00a000-7f00b000 r-xp 00026000 fd:01 131    /usr/lib/libc.so.6\n")
    (mapping,) = process.maps()
    assert mapping == Mapping(0x7F00A000, 0x7F00B000, "r-xp", 0x26000, "fd:01", 131, "/usr/lib/libc.so.6")
    assert mapping.executable
    assert mapping.file == ("fd:01", 131)


@pytest.mark.parametrize(
    "path", ["", "[heap]", "/a b/c  d.so", "/usr/lib/libx.so (deleted)", "/memfd:jit (deleted)", "/a\fb\u2028c.so"]
)
def test_the_path_of_a_mapping_is_kept_as_it_is(tmp_path: Path, path: str) -> None:
    maps = f"1000-2000 rw-p 00000000 00:00 0 {path}\n" + LIBC.format(path="/usr/lib/libc.so.6")
    first, second = record(tmp_path, maps=maps).maps()
    assert first.path == path
    assert not first.executable
    assert second.path == "/usr/lib/libc.so.6"


def test_names_and_paths_that_are_no_utf_8_do_no_harm(tmp_path: Path) -> None:
    process = record(tmp_path, maps=LIBC.encode().replace(b"{path}", b"/caf\xe9.so"), cmdline=b"")
    folder = tmp_path / str(PID)
    for name in ("comm", "stat", "status"):
        (folder / name).write_bytes((folder / name).read_bytes().replace(b"cat", b"c\xe9t"))
    (mapping,) = process.maps()
    assert mapping.path.startswith("/caf")
    assert process.command.startswith("[c")
    assert process.alive()
    assert process.resident().total_bytes == 512 * 1024


@pytest.mark.root
def test_maps_of_another_user_say_that_root_is_needed() -> None:
    """A process that is not dumpable: nobody but root reads its maps."""
    asks = (
        "import os; from diagnosis.target.process import Process; os.setresgid(65534, 65534, 65534);"
        " os.setresuid(65534, 65534, 65534); Process(1).maps()"
    )
    asked = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=False)
    assert "LabError: the mappings of pid 1 cannot be read: run this command as root" in asked.stderr


def test_a_mapped_file_is_opened_through_its_link(tmp_path: Path) -> None:
    """GIVEN a link below map_files WHEN the file has gone from its path THEN the link opens it all the same."""
    process = record(tmp_path)
    link = tmp_path / str(PID) / "map_files" / "7f00a000-7f00b000"
    link.write_text("the file itself")
    mapping = mapping_of(link, inode=1)
    assert process.open_path(mapping).read_text() == "the file itself"


@pytest.mark.parametrize("suffix", ["", " (deleted)"])
def test_without_the_link_a_file_is_found_below_the_root_of_the_process(tmp_path: Path, suffix: str) -> None:
    process = record(tmp_path)
    library = tmp_path / str(PID) / "root" / "lib" / "libc.so.6"
    library.parent.mkdir()
    library.write_text("in its container")
    mapping = Mapping(0x1000, 0x2000, "r-xp", 0, "fd:01", library.stat().st_ino, f"/lib/libc.so.6{suffix}")
    assert process.open_path(mapping).read_text() == "in its container"


def test_a_file_that_was_replaced_is_refused(tmp_path: Path) -> None:
    process = record(tmp_path)
    library = tmp_path / str(PID) / "root" / "lib" / "libc.so.6"
    library.parent.mkdir()
    library.write_text("a newer one")
    with pytest.raises(LabError, match=rf"^/lib/libc.so.6 was replaced while pid {PID} has it mapped: .*restart the"):
        process.open_path(mapping_of(library, inode=library.stat().st_ino + 1))


def test_a_file_that_has_gone_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=rf"^/lib/libc.so.6 of pid {PID} cannot be read: No such file or directory"):
        record(tmp_path).open_path(Mapping(0x1000, 0x2000, "r-xp", 0, "fd:01", 131, "/lib/libc.so.6"))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = record(tmp_path)
    library = tmp_path / str(PID) / "root" / "lib" / "libc.so.6"
    library.parent.mkdir()
    library.write_text("private")
    # Root may read everything: what the system would answer another user is put in its mouth.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(LabError, match=rf"^/lib/libc.so.6 of pid {PID} cannot be read: .*root"):
        process.open_path(mapping_of(library))

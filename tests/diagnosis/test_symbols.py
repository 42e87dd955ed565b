from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.debug_files import DebugFiles
from diagnosis.target.parser.worker import demangle
from diagnosis.target.process import Process
from diagnosis.target.symbols import Frame, Symbolizer
from tests.diagnosis.walking import CHAIN, HEADER, NO_DEBUG_FILES, WALK, line_of, symbolize, walked
from tests.support.programs import answer, compile_c, running

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["inner", "middle", "main"]


def test_frames_have_function_module_file_and_line_innermost_first(chain: Path) -> None:
    source = WALK + HEADER + CHAIN
    stack = symbolize(chain)
    assert [frame.function for frame in stack.frames] == NAMES
    assert [frame.line for frame in stack.frames] == [
        line_of(source, f"// in {name}") for name in ("inner", "middle", "main")
    ]
    assert {frame.file for frame in stack.frames} == {f"{chain}.c"}
    assert {frame.module for frame in stack.frames} == {"chain"}
    assert (stack.broken, stack.depth) == (False, 3)


def test_without_debug_information_the_functions_are_known(folder: Path) -> None:
    stack = symbolize(compile_c(WALK + HEADER + CHAIN, folder / "nameless", "-g0"))
    assert [frame.function for frame in stack.frames] == NAMES
    assert {(frame.file, frame.line) for frame in stack.frames} == {("", 0)}
    assert not stack.broken


def test_functions_of_cpp_are_called_as_in_their_source(folder: Path) -> None:
    source = CHAIN.replace(
        "static KEEP void middle(void)", 'KEEP void middle(void) __asm__("_ZN5store6insertEi");void middle(void)'
    )
    stack = symbolize(compile_c(WALK + HEADER + source, folder / "mangled"))
    assert [frame.function for frame in stack.frames] == ["inner", "store::insert(int)", "main"]


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int>>::push_back(int const&)"),
        ("_RNvC6_123foo3bar", "123foo::bar"),
        ("main", "main"),
        ("i", "i"),  # which would be the type int
        ("_Z", "_Z"),
        ("_ZN5store", "_ZN5store"),
        ("_Restart", "_Restart"),
        ("", ""),
    ],
)
def test_only_mangled_names_are_changed(symbol: str, name: str) -> None:
    assert demangle(symbol) == name


def test_in_a_stripped_program_module_and_offset_stand_for_the_function(folder: Path) -> None:
    stack = symbolize(compile_c(WALK + HEADER + CHAIN, folder / "stripped", "-s"))
    assert [frame.function for frame in stack.frames] == [""] * 3
    assert [frame.name for frame in stack.frames] == [f"stripped+{frame.offset:#x}" for frame in stack.frames]
    assert not stack.broken


def test_the_offset_of_a_frame_is_that_of_its_return_address_in_the_file(chain: Path) -> None:
    """What addr2line and debuggers of other machines take: here asked of the system's own tool."""
    stack = symbolize(chain)
    inside = [f"{frame.offset - 1:#x}" for frame in stack.frames]
    output = subprocess.run(["nm", "--defined-only", str(chain)], capture_output=True, text=True, check=True).stdout
    starts = {name: int(address, 16) for address, _, name in (line.split() for line in output.splitlines())}
    for offset, name in zip(inside, ("inner", "middle", "main"), strict=True):
        assert 0 <= int(offset, 16) - starts[name] < 64


def test_a_shared_object_is_a_module_of_its_own(folder: Path) -> None:
    inside = "KEEP void inside(void);\nKEEP void inside(void) { walk(2); } // in inside\n"
    library = compile_c(WALK + HEADER + inside, folder / "libinside.so", "-g", "-shared", "-fPIC")
    outside = "void inside(void);\nint main(void) { inside(); return 0; }\n"
    stack = symbolize(compile_c(outside, folder / "outside", "-g", str(library), f"-Wl,-rpath,{folder}"), 2)
    assert [(frame.function, frame.module) for frame in stack.frames] == [
        ("inside", "libinside.so"),
        ("main", "outside"),
    ]
    assert stack.frames[0].line == line_of(WALK + HEADER + inside, "// in inside")


def test_a_stripped_shared_object_keeps_its_exported_names_and_lends_them_to_nobody(folder: Path) -> None:
    """GIVEN a function that is not exported, between two that are THEN it does not get the name of the one before."""
    inside = """
        KEEP void first(void);
        KEEP void last(void);
        KEEP void first(void) { walk(1); }
        static KEEP void hidden(void) { walk(2); __asm__ volatile("" ::: "memory"); }
        KEEP void last(void) { hidden(); }
    """
    library = compile_c(WALK + HEADER + inside, folder / "libstripped.so", "-s", "-shared", "-fPIC")
    caller = "void last(void);\nint main(void) { last(); return 0; }\n"
    stack = symbolize(compile_c(caller, folder / "caller", str(library), f"-Wl,-rpath,{folder}"), 2)
    assert stack.frames[0].name == f"libstripped.so+{stack.frames[0].offset:#x}"
    assert stack.frames[1].name == "last"


def test_an_inlined_function_is_a_frame_like_the_one_that_it_is_inlined_in(folder: Path) -> None:
    source = (
        WALK
        + HEADER
        + """
        static inline __attribute__((always_inline)) void inlined(void) { walk(2); } // in inlined
        static KEEP void around(void) { inlined(); } // in around
        int main(void) { around(); return 0; }
        """
    )
    stack = symbolize(compile_c(source, folder / "inlining", "-g"), 2)
    assert [frame.function for frame in stack.frames] == ["inlined", "around", "main"]
    assert [frame.line for frame in stack.frames[:2]] == [
        line_of(source, "// in inlined"),
        line_of(source, "// in around"),
    ]
    assert stack.frames[0].offset == stack.frames[1].offset, "they share a return address"
    assert stack.depth == 2


def test_debug_information_that_was_split_off_is_found_by_its_build_id(folder: Path, chain: Path) -> None:
    debug_files = DebugFiles(folder / "debug", environ={})
    separate = folder / "debug" / "0b" / "adcafe00.debug"
    separate.parent.mkdir(parents=True)
    program = folder / "shipped"
    subprocess.run(["objcopy", "--only-keep-debug", str(chain), str(separate)], check=True)
    subprocess.run(["objcopy", "--strip-all", str(chain), str(program)], check=True)
    assert [frame.function for frame in symbolize(program).frames] == [""] * 3
    stack = symbolize(program, debug_files=debug_files)
    assert [frame.function for frame in stack.frames] == NAMES
    assert all(frame.line for frame in stack.frames)


@pytest.mark.parametrize("with_build_id", [True, False])
@pytest.mark.parametrize("place", ["", ".debug"])
def test_debug_information_that_a_program_names_is_found_beside_it(
    tmp_path: Path, place: str, *, with_build_id: bool
) -> None:
    """By its build id or, without one, by its checksum: a file of another program has the wrong names."""
    build_id = "-Wl,--build-id=0x0badcafe01" if with_build_id else "-Wl,--build-id=none"
    program = compile_c(WALK + HEADER + CHAIN, tmp_path / "split", "-g", build_id)
    (tmp_path / place).mkdir(exist_ok=True)
    separate = tmp_path / place / "split.dbg"
    subprocess.run(["objcopy", "--only-keep-debug", program, separate], check=True)
    subprocess.run(["objcopy", "--strip-all", f"--add-gnu-debuglink={separate}", program], check=True)
    assert [frame.function for frame in symbolize(program, debug_files=NO_DEBUG_FILES).frames] == NAMES
    kept = separate.read_bytes()
    other = build_id.replace("01", "02")
    another = compile_c(WALK + HEADER + CHAIN.replace("inner", "wrong"), tmp_path / "another", "-g", other)
    subprocess.run(["objcopy", "--only-keep-debug", another, separate], check=True)
    assert [frame.function for frame in symbolize(program, debug_files=NO_DEBUG_FILES).frames] == [""] * 3
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(kept)
    separate.unlink()
    separate.symlink_to(elsewhere)  # which could be root's
    assert [frame.function for frame in symbolize(program, debug_files=NO_DEBUG_FILES).frames] == [""] * 3


def test_debug_information_that_cannot_be_read_does_no_harm(folder: Path, chain: Path) -> None:
    debug_files = DebugFiles(folder / "broken", environ={})
    separate = folder / "broken" / "0b" / "adcafe00.debug"
    separate.parent.mkdir(parents=True)
    separate.write_bytes(b"\x7fELF and no more")
    assert [frame.function for frame in symbolize(chain, debug_files=debug_files).frames] == NAMES


def test_what_was_mapped_since_is_found(folder: Path) -> None:
    """GIVEN a symbolizer that has read the mappings WHEN a library is loaded THEN its functions are found."""
    late = "KEEP void late(void);\nKEEP void late(void) { walk(1); }\n"
    compile_c(WALK + HEADER + late, folder / "liblate.so", "-shared", "-fPIC")
    loads = f"""
        #include <dlfcn.h>
        int main(void)
        {{
            walk(1);
            void (*late)(void) = (void (*)(void))dlsym(dlopen("{folder}/liblate.so", RTLD_NOW), "late");
            late();
            return 0;
        }}
    """
    loader = compile_c(WALK + HEADER + loads, folder / "loader")
    with running(loader) as program, Symbolizer(Process(program.pid)) as symbolizer:
        assert symbolizer.symbolize([int(answer(program), 16)]).frames[0].function == "main"
        assert symbolizer.symbolize([int(answer(program, "go on"), 16)]).frames[0].function == "late"


@pytest.mark.root
def test_a_program_that_was_deleted_is_still_symbolized(folder: Path) -> None:
    program = compile_c(WALK + HEADER + CHAIN, folder / "upgraded", "-g")
    with walked(program) as (process, addresses):
        program.unlink()
        with Symbolizer(process) as symbolizer:
            stack = symbolizer.symbolize(addresses)
    assert [frame.function for frame in stack.frames] == NAMES
    assert stack.frames[0].module == "upgraded"


def test_a_program_that_has_ended_is_symbolized_by_what_was_read_before(chain: Path) -> None:
    with walked(chain) as (process, addresses):
        symbolizer = Symbolizer(process)
        symbolizer.refresh()
    assert not process.alive()
    with symbolizer:
        assert [frame.function for frame in symbolizer.symbolize(addresses).frames] == NAMES


def test_a_frame_goes_by_its_function_or_by_where_it_is() -> None:
    assert Frame("insert", "lib.so", "", 0, 16).name == "insert"
    assert Frame("", "lib.so", "", 0, 16).name == "lib.so+0x10"
    assert Frame("", "", "", 0, 16).name == "unknown+0x10"

"""The parser: ``python -m diagnosis.target.parser.worker PARENT SOCKET LIMITS`` answers until its socket closes.

It imports what it needs, gives up everything else (`confine`), and only then reads a request. Each answer is an object
with the result, or with ``error``: the file is not what it should be. When it dies, or is ended for what it takes, the
client sees how.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import capstone
import pycxxfilt
from elftools.common.exceptions import ELFError
from heap_trace import TraceError
from symbolic.exceptions import SymbolicError

from diagnosis.target.parser.code_rows import rows_of_code
from diagnosis.target.parser.confine import Limits, confine
from diagnosis.target.parser.debug_link import is_linked, read_debug_link
from diagnosis.target.parser.elf import functions, mentions, read_facts
from diagnosis.target.parser.exit_call import calls_exit
from diagnosis.target.parser.facts import Wanted
from diagnosis.target.parser.file_symbols import MAX_MANGLED, MAX_NAME, Symbols, frame_information
from diagnosis.target.parser.perf_map import PerfMap
from diagnosis.target.parser.probing import find_symbols, look_at_functions
from diagnosis.target.parser.protocol import MAX_DESCRIPTORS, Message, ProtocolError, receive, send
from diagnosis.target.parser.rust_names import as_rust, is_rust
from diagnosis.target.parser.unwind_facts import read_unwind_facts
from diagnosis.target.parser.unwind_rows import make_rows
from diagnosis.target.placement import place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Bytes of converted symbols that are kept; the ones that were asked for longest ago go first.
MAX_KEPT = 48 << 20

EXPORT = struct.Struct("<QQ")


def demangle(symbol: str) -> str:
    """A symbol of C++ or Rust as its source has it; any other as it is."""
    if not symbol.startswith(("_Z", "_R")) or len(symbol) > MAX_MANGLED:
        return symbol  # i, a function of C, is not int
    try:
        name = pycxxfilt.demangle(symbol) or symbol
    except ValueError:
        return symbol
    return as_rust(name) if is_rust(symbol) else name


class Worker:
    """Answers requests. Files are closed after each; what was converted of them is kept for later questions."""

    def __init__(self) -> None:
        self._kept: dict[int, Symbols | PerfMap] = {}
        self._operations: dict[str, Callable[[Message], Message]] = {
            "facts": self._facts,
            "defines": self._defines,
            "place": self._place,
            "symbols": self._symbols,
            "probes": self._probes,
            "calls_exit": self._calls_exit,
            "open": self._open,
            "lookup": self._lookup,
            "demangle": self._demangle,
            "debug_link": self._debug_link,
            "is_linked": self._is_linked,
            "cfi": self._cfi,
        }

    def serve(self, connection: socket.socket) -> None:
        """Answer until the other side closes its end."""
        while (message := receive(connection, descriptors=MAX_DESCRIPTORS)) is not None:
            try:
                answer = self.answer(message)
            finally:
                for descriptor in message.descriptors:
                    os.close(descriptor)
            send(connection, answer)

    def answer(self, message: Message) -> Message:
        """The answer to one request.

        Raises:
            MemoryError: it takes more than there is; the parser ends.
        """
        try:
            return self._operations[message.fields["operation"]](message)
        except MemoryError:
            raise
        except (ELFError, SymbolicError) as error:
            # symbolic's is several lines, the first of which says what is wrong.
            return Message({"error": str(error).split("\n")[0][:MAX_NAME]})
        except Exception as error:  # noqa: BLE001 - what a library makes of garbage is its own affair
            return Message({"error": f"{type(error).__name__}: {error}"[:MAX_NAME]})

    def _facts(self, message: Message) -> Message:
        """Machine, segments, build id and the functions of a symbol table, all or some."""
        (descriptor,) = message.descriptors
        facts = read_facts(descriptor)
        names = message.fields["names"]
        wanted = None if names is None else frozenset(names)
        exports = {
            export.name: export
            for export in functions(descriptor, message.fields["table"])
            if wanted is None or export.name in wanted
        }
        table = b"".join(EXPORT.pack(export.address, export.size) for export in exports.values())
        text = "\0".join(exports).encode()
        fields = asdict(facts)
        del fields["exports"]
        return Message({**fields, "count": len(exports)}, table + text)

    def _defines(self, message: Message) -> Message:
        (descriptor,) = message.descriptors
        names = set(message.fields["names"])
        found = mentions(descriptor, sorted(names)) and names <= {
            export.name for export in functions(descriptor, ".dynsym")
        }
        return Message({"defines": found})

    def _place(self, message: Message) -> Message:
        fields = message.fields
        placement = place(
            message.payload, fields["machine"], arguments=fields["arguments"], at_entry=fields["at_entry"]
        )
        return Message(asdict(placement))

    def _symbols(self, message: Message) -> Message:
        (descriptor,) = message.descriptors
        fields = message.fields
        return Message(find_symbols(descriptor, fields["names"], fields["ends"], fields["variables"]))

    def _probes(self, message: Message) -> Message:
        (descriptor,) = message.descriptors
        fields = message.fields
        functions = [Wanted(**each) for each in fields["functions"]]
        return Message(
            {"probes": look_at_functions(descriptor, functions, fields["known"], at_entry=fields["at_entry"])}
        )

    def _calls_exit(self, message: Message) -> Message:
        fields = message.fields
        return Message({"calls": calls_exit(fields["exit"], fields["machine"], message.payload, fields["address"])})

    def _open(self, message: Message) -> Message:
        """Convert the symbols of an object, or read a perf map, for `lookup`."""
        fields = message.fields
        if fields["kind"] == "perf map":
            (descriptor,) = message.descriptors
            kept: Symbols | PerfMap = PerfMap(descriptor)
        else:
            kept = Symbols(message.descriptors, debug=fields["kind"] == "debug")
        self._kept[fields["id"]] = kept
        while len(self._kept) > 1 and sum(each.size for each in self._kept.values()) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        return Message({})

    def _lookup(self, message: Message) -> Message:
        number = message.fields["id"]
        kept = self._kept.pop(number, None)
        if kept is None:
            return Message({"found": None})
        self._kept[number] = kept
        return Message({"found": [kept.lookup(address) for address in message.fields["addresses"]]})

    def _demangle(self, message: Message) -> Message:
        return Message({"names": [demangle(symbol)[:MAX_NAME] for symbol in message.fields["symbols"]]})

    def _debug_link(self, message: Message) -> Message:
        (descriptor,) = message.descriptors
        name, checksum = read_debug_link(descriptor)
        return Message({"name": name, "checksum": checksum})

    def _is_linked(self, message: Message) -> Message:
        (descriptor,) = message.descriptors
        return Message({"linked": is_linked(descriptor, message.fields["build_id"], message.fields["checksum"])})

    def _cfi(self, message: Message) -> Message:
        """An object's segments, and the unwind rows of all its call frame information."""
        (descriptor,) = message.descriptors
        facts = read_unwind_facts(descriptor)
        text = frame_information(descriptor)
        if not facts.framed and not facts.go:
            with contextlib.suppress(ELFError):  # symbols that are broken: what the text says holds all the same
                text += b"\n" + rows_of_code(descriptor, text)
        segments = [asdict(segment) for segment in facts.segments]
        try:
            rows = make_rows(text, facts) if segments else None
        except TraceError:
            rows = None  # more code than a table can hold
        return Message({"segments": segments, "rows": len(rows) if rows else 0}, rows.pack() if rows else b"")


def warm_up() -> None:
    """Let the libraries open and import what they put off until they are used."""
    "".encode("idna")
    demangle("_Z1fv")
    place(b"\xc3", "x64")
    capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    with open(sys.executable, "rb") as stream:  # noqa: PTH123 - a descriptor is what is wanted
        list(functions(stream.fileno(), ".dynsym"))
        read_facts(stream.fileno())
        find_symbols(stream.fileno(), ["main"], ["malloc"], ["environ"])


def main(arguments: Sequence[str]) -> None:
    """Confine this process, and answer."""
    parent, descriptor, limits = arguments
    connection = socket.socket(fileno=int(descriptor))
    warm_up()
    holds = confine(int(parent), Limits(**json.loads(limits)))
    send(connection, Message({"holds": sorted(holds)}))
    try:
        Worker().serve(connection)
    except (ProtocolError, OSError):
        sys.exit(1)
    except MemoryError:
        os._exit(EXIT_MEMORY)


EXIT_MEMORY = 3

if __name__ == "__main__":
    main(sys.argv[1:])

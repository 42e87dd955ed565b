"""Names of one file's addresses, from the parser: with less of the file, where it cannot take all of it."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from diagnosis.target.parser.answers import names_of, places_of
from diagnosis.target.parser.client import ParserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diagnosis.target.parser.client import Budget, Parser

    # A name as the symbol table has it, a file, a line.
    Place = tuple[str, str, int]

_numbers = itertools.count()

# In this order: debug information can be more than the parser can hold, or made to stop it; a symbol table is small.
WITH_DEBUG, SYMBOLS_ONLY, PERF_MAP = "debug", "symbols", "perf map"
BATCH = 1024


class Names:
    """Names of the addresses of one file.

    Args:
        parser: is asked.
        budget: of the target.
        opened: opens the files to read, separate debug information first, and closes them when the stack ends.
        kind: how it is read: `WITH_DEBUG` or `PERF_MAP`.
    """

    def __init__(
        self, parser: Parser, budget: Budget, opened: Callable[[ExitStack], list[int]], kind: str = WITH_DEBUG
    ) -> None:
        self._parser, self._budget, self._opened = parser, budget, opened
        self._number = next(_numbers)
        self._kind = kind
        self._whole = True
        #: Why there are no names, or no lines; "" while there are.
        self.lost = ""

    def lookup(self, addresses: Sequence[int]) -> list[list[Place]]:
        """Function, file and line of each address, innermost first; none where they are not known."""
        found: list[list[Place]] = []
        for start in range(0, len(addresses), BATCH):
            found += self._lookup(addresses[start : start + BATCH])
        return found

    def _lookup(self, addresses: Sequence[int]) -> list[list[Place]]:
        while self._whole:
            try:
                return self._ask(addresses)
            except ParserError as error:
                self.lost = str(error)
                if self._kind != WITH_DEBUG:
                    self._whole = False
                self._kind = SYMBOLS_ONLY
        return [[] for _ in addresses]

    def _ask(self, addresses: Sequence[int]) -> list[list[Place]]:
        fields = {"id": self._number, "addresses": list(addresses)}
        places = places_of(self._parser.ask("lookup", fields, budget=self._budget), len(addresses))
        if places is None:
            opening: dict[str, Any] = {"id": self._number, "kind": self._kind}
            with ExitStack() as stack:
                self._parser.ask("open", opening, files=self._opened(stack), budget=self._budget)
            places = places_of(self._parser.ask("lookup", fields, budget=self._budget), len(addresses))
        if places is None:
            raise ParserError("the parser does not keep it", lost=True)
        return places


class Demangler:
    """Names of C++ and Rust as their source has them. A symbol that stops the parser stays as it is.

    Args:
        parser: is asked.
        budget: of the target.
    """

    def __init__(self, parser: Parser, budget: Budget) -> None:
        self._parser, self._budget = parser, budget
        self._known: dict[str, str] = {}
        #: How many symbols could not be read.
        self.lost = 0

    def demangle(self, symbols: set[str]) -> dict[str, str]:
        """A name for each symbol."""
        mangled = sorted(symbol for symbol in symbols - self._known.keys() if symbol.startswith(("_Z", "_R")))
        for start in range(0, len(mangled), BATCH):
            batch = mangled[start : start + BATCH]
            if not self._ask(batch):
                for symbol in batch:  # which one it was is found out one by one
                    if not self._ask([symbol]):
                        self._known[symbol] = symbol
                        self.lost += 1
        return {symbol: self._known.get(symbol, symbol) for symbol in symbols}

    def _ask(self, symbols: list[str]) -> bool:
        try:
            answer = self._parser.ask("demangle", {"symbols": symbols}, budget=self._budget)
            self._known.update(zip(symbols, names_of(answer, len(symbols)), strict=True))
        except ParserError:
            return False
        return True

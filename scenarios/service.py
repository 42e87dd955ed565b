"""Follows the prices of shares: a round of new prices, again and again."""

import itertools
import sys

import quotes

ROUNDS_PER_SECOND = 20
SYMBOLS = ("ASH", "BRS", "CLY", "COP", "GLS", "IRN", "LIN", "OAK")


def follow_share(symbol: str, number: int) -> None:
    """One share's new price."""
    quotes.update(symbol, 100 + number % 7)


def follow_market(number: int) -> None:
    """Every share's new price."""
    for symbol in SYMBOLS:
        follow_share(symbol, number)


def main() -> None:
    """Run until somebody ends it."""
    _, speed, ledger = sys.argv
    quotes.open(speed, ledger)
    for number in itertools.count():
        quotes.wait(ROUNDS_PER_SECOND)
        follow_market(number)
        quotes.done()


if __name__ == "__main__":
    main()

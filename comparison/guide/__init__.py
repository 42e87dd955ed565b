"""Run every heap tool on the same leak, hold each against the leaker's ledger, and write the guide's table from it."""

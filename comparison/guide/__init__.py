"""Run every heap tool on the same leak, compare each with the leaker's ledger, and write the guide's table from it."""

"""The lab on this machine: the service as a child, its claims, its ledger, and the grade of an answer."""

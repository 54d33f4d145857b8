"""The ledger's mechanisms, one a file: each reads the arguments of a claim's reading and returns what was shown."""

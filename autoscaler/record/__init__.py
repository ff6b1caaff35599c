"""What was decided and why: kept in memory, written to a log, decided again from it."""

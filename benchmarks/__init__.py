"""The benchmarks: the engine of civicbus beside its peers, on one broker, in turns. Run by ``make bench``."""

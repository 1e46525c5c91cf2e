"""The test protocol, its statistics, and the files that it writes."""

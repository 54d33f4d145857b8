"""The parts of a report, one a file, each from frozen values to sections of a document."""

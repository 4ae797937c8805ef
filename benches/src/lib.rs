//! Benchmarks: hot paths, and whole builds against other builders.

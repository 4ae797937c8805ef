//! End-to-end tests of the kiln command and library.

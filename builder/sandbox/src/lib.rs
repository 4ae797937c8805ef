//! Runs one process in one root filesystem; all unsafe code of kiln lives here.

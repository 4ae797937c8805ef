//! Solves a graph: schedules, looks up, executes, commits and assembles.

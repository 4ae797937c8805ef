//! Patterns that select paths: `.dockerignore` lists and COPY wildcards.

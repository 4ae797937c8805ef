//! Dockerfile to kiln-graph: parser with spans, expansion, lint and compilation.

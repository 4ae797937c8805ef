//! kiln.toml to kiln-graph.

//! A frontend: what comes on standard input is run line by line on busybox, and the image's digest is
//! printed. A language of one's own looks the same, for a frontend only makes a graph.

use std::io::Write as _;

use kiln::{BuildRequest, GraphBuilder, Kiln, Platform};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kiln::run_if_helper();
    let kiln = Kiln::builder().user_store()?.open()?;
    let platform = Platform::host();
    let base = kiln.image("docker.io/library/busybox:latest", &platform)?;
    let mut graph = GraphBuilder::new(platform);
    let mut state = graph.image(&base)?;
    for line in std::io::stdin().lines() {
        state = graph.run(state, ["sh", "-c", &line?])?;
    }
    let build = BuildRequest::graph(graph.build(state));
    let digest = kiln.build(build)?.digest;
    writeln!(std::io::stdout(), "{digest:?}")?;
    Ok(())
}

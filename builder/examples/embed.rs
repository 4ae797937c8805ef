//! A build made by hand: no build file, no frontend. Prints the image's digest.

use kiln::{BuildRequest, GraphBuilder, Kiln, Platform};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kiln::run_if_helper();
    let kiln = Kiln::builder().user_store()?.open()?;
    let mut graph = GraphBuilder::new(Platform::host());
    let empty = graph.scratch()?;
    let hello = graph.write(empty, "/hello", "hello\n")?;
    let build = BuildRequest::graph(graph.build(hello));
    let digest = kiln.build(build)?.digest;
    std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{digest:?}\n"))?;
    Ok(())
}

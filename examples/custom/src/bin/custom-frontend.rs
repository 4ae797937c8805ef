//! A frontend: what comes on standard input is an image's name, and commands that are run in it line by
//! line; the image's digest is printed. A language of one's own looks the same.

use std::io::{Read as _, Write as _};

use kiln::graph::{Compilation, GraphError, ImageRequest, ImageTable};
use kiln::{BuildRequest, Frontend, GraphBuilder, Kiln, Platform};

struct Lines {
    platform: Platform,
}

/// Why lines can't be compiled.
#[derive(Debug, thiserror::Error)]
enum Mistake {
    #[error("the first line names an image")]
    NoImage,
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl Frontend for Lines {
    type Input = str;
    type Error = Mistake;

    fn compile(&self, text: &str, images: &ImageTable) -> Result<Compilation, Mistake> {
        let mut lines = text.lines();
        let name = lines.next().filter(|name| !name.is_empty());
        let base = ImageRequest {
            name: name.ok_or(Mistake::NoImage)?.to_owned(),
            platform: self.platform.clone(),
        };
        let Some(image) = images.get(&base) else {
            return Ok(Compilation::Needs(vec![base]));
        };
        let mut graph = GraphBuilder::new(self.platform.clone());
        let mut state = graph.image(image)?;
        for line in lines {
            state = graph.run(state, ["sh", "-c", line])?;
        }
        Ok(Compilation::Done(Box::new(graph.build(state))))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kiln::run_if_helper();
    let mut text = String::new();
    _ = std::io::stdin().read_to_string(&mut text)?;
    let kiln = Kiln::builder().user_store()?.open()?;
    let frontend = Lines {
        platform: Platform::host(),
    };
    let build = kiln.compile(&frontend, &text)?;
    let digest = kiln.build(BuildRequest::graph(build))?.digest;
    writeln!(std::io::stdout(), "{digest:?}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_a_frontend_keeps() {
        let frontend = Lines {
            platform: Platform::host(),
        };
        kiln::conformance::frontend(&frontend, "busybox\ntrue\nfalse\n", "\ntrue\n").unwrap();
    }
}

//! A build made by hand: no build file, no frontend.
//!
//! Writes one file on top of nothing, solves that, and prints the image's digest.

use std::sync::Arc;

use kiln::graph::{
    Build, FileAction, Files, Graph, HistoryLine, ImageConfig, ImagePath, LayerOrigin, Op,
    Platform, Step, StepName, Target,
};
use kiln::{Event, ImageOptions, Request};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kiln::run_if_helper();
    let engine = kiln::open(|_| {})?;
    let mut request = Request::new(hello()?);
    request.events = Arc::new(|event: Event| {
        if let Event::Finished {
            outcome, duration, ..
        } = event
        {
            say(&format!("a step ended: {outcome:?} after {duration:?}"));
        }
    });
    let solved = engine.solve(request)?;
    let target = &solved.build().targets[0];
    let image = solved.image(target, &ImageOptions::default(), &|_| {})?;
    say(&format!("image {}", image.descriptor.digest));
    Ok(())
}

fn hello() -> Result<Build, kiln::graph::GraphError> {
    let platform = Platform::host();
    let write = FileAction::Write {
        dest: ImagePath::new("/hello"),
        to_directory: false,
        name: "hello".to_owned(),
        content: b"hello\n".to_vec(),
        mode: 0o644,
        owner: None,
    };
    let op = Op::Files(Files {
        base: None,
        actions: vec![write],
    });
    let name = StepName {
        stage: "hello".to_owned(),
        number: 1,
        of: 1,
        text: "write /hello".to_owned(),
    };
    let step = Step {
        op,
        name,
        location: None,
        platform: platform.clone(),
        reuse: kiln_graph::Reuse::Always,
    };
    let mut graph = Graph::new();
    let root = graph.add(step, Vec::new())?;
    let history = vec![HistoryLine {
        created_by: "embed".to_owned(),
        comment: String::new(),
        author: String::new(),
        layer: LayerOrigin::Step(root),
        created: None,
        layer_name: None,
    }];
    let config = ImageConfig::scratch(&platform);
    let targets = vec![Target {
        platform,
        root,
        config,
        history,
    }];
    Ok(Build {
        graph,
        targets,
        stages: Vec::new(),
        volume_files: std::collections::BTreeMap::new(),
        exports: Vec::new(),
    })
}

fn say(text: &str) {
    use std::io::Write as _;
    _ = writeln!(std::io::stdout().lock(), "{text}");
}

//! Each operation of a definition as steps of a graph.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard_buildkit_proto::pb;
use bollard_buildkit_proto::pb::op::Op as Operation;
use kiln_graph::{
    Build, FileAction, Files, Graph, ImageConfig, ImageRequest, ImageTable, Input, Op, Platform,
    Reuse, Step, StepId, StepName, Target,
};

use crate::definition::{Ordered, Vertex, read};
use crate::error::{LlbError, malformed, unsupported};
use crate::source::{LocalSource, Source, source};

/// A definition as a graph, with the directories of clients that it reads by the names that the graph has
/// for them.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph, with one target.
    pub build: Build,
    /// The directories.
    pub locals: BTreeMap<String, LocalSource>,
}

/// What came of compiling.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The graph.
    Done(Box<Compiled>),
    /// These images must be known first.
    Needs(Vec<ImageRequest>),
}

/// Compiles a definition; `host` is the platform of what names none.
///
/// # Errors
/// When it isn't a definition, or asks for what kiln doesn't have.
pub fn compile(
    definition: &pb::Definition,
    host: &Platform,
    images: &ImageTable,
) -> Result<Outcome, LlbError> {
    if definition.def.is_empty() {
        return nothing(host);
    }
    let ordered = read(definition)?;
    let needed = missing(&ordered, host, images)?;
    if !needed.is_empty() {
        return Ok(Outcome::Needs(needed.into_iter().collect()));
    }
    let mut compiler = Compiler {
        host,
        images,
        graph: Graph::new(),
        made: HashMap::new(),
        locals: BTreeMap::new(),
    };
    for vertex in &ordered.vertices {
        compiler.vertex(vertex)?;
    }
    let root = compiler.made(&ordered.result)?;
    let platform = compiler.graph.step(root).platform.clone();
    let build = Build {
        graph: compiler.graph,
        targets: vec![Target {
            config: ImageConfig::scratch(&platform),
            platform,
            root,
            history: Vec::new(),
        }],
        ..Build::default()
    };
    let locals = compiler.locals;
    Ok(Outcome::Done(Box::new(Compiled { build, locals })))
}

/// A definition without operations is the empty tree.
fn nothing(host: &Platform) -> Result<Outcome, LlbError> {
    let mut graph = Graph::new();
    let name = StepName {
        stage: String::new(),
        number: 0,
        of: 0,
        text: "scratch".to_owned(),
    };
    let step = Step {
        op: Op::Scratch,
        name,
        location: None,
        platform: host.clone(),
        reuse: Reuse::Always,
        remote: kiln_graph::WorkerProperties::none(),
    };
    let root = graph.add(step, Vec::new());
    let target = Target {
        config: ImageConfig::scratch(host),
        platform: host.clone(),
        root: root.map_err(|error| malformed(error.to_string()))?,
        history: Vec::new(),
    };
    let build = Build {
        graph,
        targets: vec![target],
        ..Build::default()
    };
    let locals = BTreeMap::new();
    Ok(Outcome::Done(Box::new(Compiled { build, locals })))
}

/// The images that aren't known.
fn missing(
    ordered: &Ordered,
    host: &Platform,
    images: &ImageTable,
) -> Result<BTreeSet<ImageRequest>, LlbError> {
    let mut needed = BTreeSet::new();
    for vertex in &ordered.vertices {
        if let Some(Operation::Source(op)) = &vertex.op.op
            && let Source::Image(name) = source(op)?
        {
            let platform = platform_of(&vertex.op, host);
            let request = ImageRequest { name, platform };
            if !images.contains_key(&request) {
                needed.insert(request);
            }
        }
    }
    Ok(needed)
}

fn platform_of(op: &pb::Op, host: &Platform) -> Platform {
    match &op.platform {
        Some(platform) if !platform.os.is_empty() => {
            Platform::new(&platform.os, &platform.architecture, &platform.variant)
        }
        _ => host.clone(),
    }
}

/// An operation whose steps are being made.
pub(crate) struct Place<'a> {
    pub(crate) op: &'a pb::Op,
    vertex: &'a Vertex,
    platform: Platform,
    name: String,
}

/// Makes steps.
pub(crate) struct Compiler<'a> {
    host: &'a Platform,
    images: &'a ImageTable,
    graph: Graph,
    /// The results of operations, by digest and number.
    made: HashMap<(String, usize), StepId>,
    locals: BTreeMap<String, LocalSource>,
}

impl Compiler<'_> {
    fn vertex(&mut self, vertex: &Vertex) -> Result<(), LlbError> {
        let place = Place {
            op: &vertex.op,
            vertex,
            platform: platform_of(&vertex.op, self.host),
            name: name_of(vertex),
        };
        match &vertex.op.op {
            Some(Operation::Source(op)) => self.source(&place, op),
            Some(Operation::Exec(op)) => crate::exec::exec(self, &place, op),
            Some(Operation::File(op)) => crate::file::file(self, &place, op),
            Some(Operation::Merge(op)) => self.merge(&place, op),
            Some(Operation::Diff(op)) => self.diff(&place, *op),
            Some(Operation::Build(_)) => Err(unsupported("a build in a build (BuildOp)")),
            None => Err(unsupported("an operation that is newer than this kiln")),
        }
    }

    /// Adds a step of an operation.
    pub(crate) fn add(
        &mut self,
        place: &Place<'_>,
        op: Op,
        inputs: Vec<StepId>,
    ) -> Result<StepId, LlbError> {
        let step = Step {
            op,
            name: StepName {
                stage: String::new(),
                number: 0,
                of: 0,
                text: place.name.clone(),
            },
            location: None,
            platform: place.platform.clone(),
            remote: kiln_graph::WorkerProperties::none(),
            reuse: match place.vertex.metadata.ignore_cache {
                true => Reuse::Never,
                false => Reuse::Always,
            },
        };
        let added = self.graph.add(step, inputs);
        added.map_err(|error| malformed(error.to_string()))
    }

    /// An empty tree.
    pub(crate) fn scratch(&mut self, place: &Place<'_>) -> Result<StepId, LlbError> {
        self.add(place, Op::Scratch, Vec::new())
    }

    /// Notes a result of an operation.
    pub(crate) fn output(
        &mut self,
        place: &Place<'_>,
        number: usize,
        step: StepId,
    ) -> Result<(), LlbError> {
        let key = (place.vertex.digest.clone(), number);
        match self.made.insert(key, step) {
            Some(_) => Err(malformed("two results of an operation have one number")),
            None => Ok(()),
        }
    }

    fn made(&self, input: &pb::Input) -> Result<StepId, LlbError> {
        let number = usize::try_from(input.index).unwrap_or(usize::MAX);
        let found = self.made.get(&(input.digest.clone(), number)).copied();
        found.ok_or_else(|| malformed(format!("{} has no result {number}", input.digest)))
    }

    /// An input of an operation by its number; nothing for the empty tree (-1).
    pub(crate) fn input(&self, place: &Place<'_>, number: i64) -> Result<Option<StepId>, LlbError> {
        let Ok(number) = usize::try_from(number) else {
            return Ok(None);
        };
        let input = place.op.inputs.get(number);
        let input =
            input.ok_or_else(|| malformed(format!("an operation has no input {number}")))?;
        self.made(input).map(Some)
    }

    /// The same with a step for the empty tree.
    pub(crate) fn input_or_scratch(
        &mut self,
        place: &Place<'_>,
        number: i64,
    ) -> Result<StepId, LlbError> {
        match self.input(place, number)? {
            Some(step) => Ok(step),
            None => self.scratch(place),
        }
    }

    fn source(&mut self, place: &Place<'_>, op: &pb::SourceOp) -> Result<(), LlbError> {
        let op = match source(op)? {
            Source::Plain(op) => op,
            Source::Local(local) => {
                let name = place.vertex.digest.clone();
                let op = local.op(&name);
                self.locals.insert(name, local);
                op
            }
            Source::Image(name) => {
                let platform = place.platform.clone();
                let known = self.images.get(&ImageRequest { name, platform });
                let known = known.ok_or_else(|| malformed("an image that isn't known"))?;
                Op::Image(known.source.clone())
            }
        };
        let step = self.add(place, op, Vec::new())?;
        self.output(place, 0, step)
    }

    fn merge(&mut self, place: &Place<'_>, op: &pb::MergeOp) -> Result<(), LlbError> {
        let mut inputs = Vec::new();
        for input in &op.inputs {
            inputs.extend(self.input(place, input.input)?);
        }
        let step = match inputs.as_slice() {
            [] => self.scratch(place)?,
            [only] => *only,
            _ => {
                let count = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
                let layers = (0..count).map(Input).collect();
                self.add(place, Op::Merge { layers }, inputs)?
            }
        };
        self.output(place, 0, step)
    }

    /// The difference of a tree from the empty one is the tree.
    fn diff(&mut self, place: &Place<'_>, op: pb::DiffOp) -> Result<(), LlbError> {
        let number = |input: Option<i64>| input.unwrap_or(-1);
        let lower = self.input(place, number(op.lower.map(|lower| lower.input)))?;
        let upper = number(op.upper.map(|upper| upper.input));
        let step = match lower {
            None => self.input_or_scratch(place, upper)?,
            Some(lower) => {
                let upper = self.input_or_scratch(place, upper)?;
                let mut inputs = vec![lower];
                let upper = Input::add(&mut inputs, upper);
                let lower = Input(0);
                let actions = vec![FileAction::Difference { lower, upper }];
                let base = None;
                self.add(place, Op::Files(Files { base, actions }), inputs)?
            }
        };
        self.output(place, 0, step)
    }
}

/// What people are shown: the author's own name, else what the operation does.
fn name_of(vertex: &Vertex) -> String {
    if let Some(name) = vertex.metadata.description.get("llb.customname") {
        return name.clone();
    }
    match &vertex.op.op {
        Some(Operation::Source(op)) => op.identifier.clone(),
        Some(Operation::Exec(op)) => {
            let args = op.meta.as_ref().map(|meta| meta.args.join(" "));
            args.unwrap_or_default()
        }
        Some(Operation::File(op)) => {
            let verbs = op.actions.iter().map(|action| verb(action.action.as_ref()));
            verbs.collect::<Vec<_>>().join(", ")
        }
        Some(Operation::Merge(_)) => "merge".to_owned(),
        Some(Operation::Diff(_)) => "diff".to_owned(),
        Some(Operation::Build(_)) | None => String::new(),
    }
}

fn verb(action: Option<&pb::file_action::Action>) -> String {
    use pb::file_action::Action;
    match action {
        Some(Action::Copy(copy)) => format!("copy {} {}", copy.src, copy.dest),
        Some(Action::Mkfile(file)) => format!("mkfile {}", file.path),
        Some(Action::Mkdir(directory)) => format!("mkdir {}", directory.path),
        Some(Action::Rm(removed)) => format!("rm {}", removed.path),
        Some(Action::Symlink(link)) => format!("symlink {} {}", link.oldpath, link.newpath),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::{BlobDigest, ImageSource, ResolvedImage};
    use pb::file_action::Action;
    use proptest::prelude::*;
    use prost::Message as _;

    /// Makes definitions.
    #[derive(Default)]
    struct Writer {
        definition: pb::Definition,
    }

    impl Writer {
        fn add(&mut self, inputs: &[&pb::Input], op: Option<Operation>) -> pb::Input {
            let op = pb::Op {
                inputs: inputs.iter().map(|input| (*input).clone()).collect(),
                op,
                ..pb::Op::default()
            };
            let bytes = op.encode_to_vec();
            let digest = BlobDigest::of(&bytes).to_string();
            self.definition.def.push(bytes);
            pb::Input { digest, index: 0 }
        }

        fn source(&mut self, identifier: &str, attrs: &[(&str, &str)]) -> pb::Input {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let op = pb::SourceOp {
                identifier: identifier.to_owned(),
                attrs: attrs.iter().map(owned).collect(),
            };
            self.add(&[], Some(Operation::Source(op)))
        }

        fn end(mut self, result: &pb::Input) -> pb::Definition {
            _ = self.add(&[result], None);
            self.definition
        }
    }

    fn host() -> Platform {
        Platform::new("linux", "amd64", "")
    }

    fn compiled(definition: &pb::Definition) -> Result<Compiled, LlbError> {
        let mut images = ImageTable::new();
        loop {
            match compile(definition, &host(), &images)? {
                Outcome::Done(compiled) => return Ok(*compiled),
                Outcome::Needs(requests) => {
                    for request in requests {
                        let source = ImageSource {
                            name: request.name.clone(),
                            manifest: BlobDigest::of(b"x"),
                            layers: Vec::new(),
                        };
                        let config = ImageConfig::scratch(&host());
                        let image = ResolvedImage {
                            source,
                            config,
                            is_known: true,
                        };
                        images.insert(request, image);
                    }
                }
            }
        }
    }

    fn run(args: &str, mounts: &[(i64, &str, i64)]) -> Operation {
        let mount = |(input, dest, output): &(i64, &str, i64)| pb::Mount {
            input: *input,
            dest: (*dest).to_owned(),
            output: *output,
            ..pb::Mount::default()
        };
        Operation::Exec(pb::ExecOp {
            meta: Some(pb::Meta {
                args: args.split(' ').map(str::to_owned).collect(),
                cwd: "/".to_owned(),
                ..pb::Meta::default()
            }),
            mounts: mounts.iter().map(mount).collect(),
            ..pb::ExecOp::default()
        })
    }

    fn ops(compiled: &Compiled) -> Vec<&Op> {
        compiled
            .build
            .graph
            .steps()
            .map(|(_, step)| &step.op)
            .collect()
    }

    #[test]
    fn nothing_is_the_empty_tree() {
        let compiled = compiled(&pb::Definition::default()).unwrap();
        assert!(matches!(ops(&compiled)[..], [Op::Scratch]));
    }

    #[test]
    fn a_command_in_an_image() {
        let mut writer = Writer::default();
        let image = writer.source("docker-image://docker.io/library/busybox:latest", &[]);
        let ran = writer.add(&[&image], Some(run("echo hi", &[(0, "/", 0)])));
        let compiled = compiled(&writer.end(&ran)).unwrap();
        let [Op::Image(_), Op::Exec(exec)] = ops(&compiled)[..] else {
            panic!("{compiled:?}");
        };
        assert_eq!(exec.args, ["echo", "hi"]);
        assert!(exec.env.iter().any(|(name, _)| name == "PATH"));
    }

    #[test]
    fn the_result_of_a_mount_is_copied_in_and_out() {
        let mut writer = Writer::default();
        let image = writer.source("docker-image://busybox", &[]);
        let mounts = [(0, "/", -1), (-1, "/out", 0)];
        let ran = writer.add(&[&image], Some(run("touch /out/x", &mounts)));
        let compiled = compiled(&writer.end(&ran)).unwrap();
        let [Op::Image(_), Op::Files(_), Op::Exec(exec), Op::Files(out)] = ops(&compiled)[..]
        else {
            panic!("{compiled:?}");
        };
        assert!(exec.mounts.is_empty());
        assert_eq!((out.base, out.actions.len()), (None, 1));
    }

    #[test]
    fn actions_on_one_tree_are_one_step() {
        let action = |input, output, action| pb::FileAction {
            input,
            secondary_input: -1,
            output,
            action: Some(action),
        };
        let made = Action::Mkdir(pb::FileActionMkDir {
            path: "/a".to_owned(),
            mode: 0o700,
            timestamp: -1,
            ..pb::FileActionMkDir::default()
        });
        let written = Action::Mkfile(pb::FileActionMkFile {
            path: "/a/b".to_owned(),
            mode: -1,
            timestamp: -1,
            ..pb::FileActionMkFile::default()
        });
        let chain = vec![action(-1, -1, made.clone()), action(0, 0, written.clone())];
        let apart = vec![action(-1, 0, made), action(0, 1, written)];
        for (actions, count) in [(chain, 1), (apart, 2)] {
            let mut writer = Writer::default();
            let op = Operation::File(pb::FileOp { actions });
            let files = writer.add(&[], Some(op));
            let compiled = compiled(&writer.end(&files)).unwrap();
            assert_eq!(ops(&compiled).len(), count);
        }
    }

    #[test]
    fn directories_of_clients_are_asked_for() {
        let mut writer = Writer::default();
        let attrs = [
            ("local.followpaths", "[\"a\"]"),
            ("local.sharedkeyhint", "k"),
        ];
        let local = writer.source("local://context", &attrs);
        let compiled = compiled(&writer.end(&local)).unwrap();
        let source = compiled.locals.values().next().unwrap();
        assert_eq!(
            (source.directory.as_str(), source.follow.len()),
            ("context", 1)
        );
    }

    #[test]
    fn what_is_not_known_is_named() {
        let of = |identifier: &str, attrs: &[(&str, &str)]| {
            let mut writer = Writer::default();
            let source = writer.source(identifier, attrs);
            compiled(&writer.end(&source)).unwrap_err().to_string()
        };
        assert!(of("containers-storage://x", &[]).contains("containers-storage://"));
        assert!(of("kiln-ref://../x", &[]).contains("result"));
        assert!(of("docker-image://a", &[("image.layerlimit", "1")]).contains("layerlimit"));
        assert!(of("http://a/b", &[("http.header.x", "y")]).contains("http.header.x"));
        assert!(of("busybox", &[]).contains("scheme"));
        for remote in ["file:///etc", "/etc", "ext::sh -c id"] {
            assert!(
                of("git://x", &[("git.fullurl", remote)]).contains("git source"),
                "{remote}"
            );
        }
        let mut writer = Writer::default();
        let one = writer.source("docker-image://a", &[]);
        let diff = pb::DiffOp {
            lower: Some(pb::LowerDiffInput { input: 0 }),
            upper: Some(pb::UpperDiffInput { input: 1 }),
        };
        let diff = writer.add(&[&one, &one], Some(Operation::Diff(diff)));
        let compiled = compiled(&writer.end(&diff)).unwrap();
        let [Op::Image(_), Op::Files(files)] = ops(&compiled)[..] else {
            panic!("{compiled:?}");
        };
        assert!(matches!(files.actions[..], [FileAction::Difference { .. }]));
    }

    #[test]
    fn hostile_definitions_are_refused() {
        let none = pb::Input::default();
        let unknown = pb::Input {
            digest: "sha256:0".to_owned(),
            index: 0,
        };
        let mut definitions = vec![Writer::default().end(&none)];
        definitions.push(Writer::default().end(&unknown));
        let mut early = Writer::default();
        let used = early.add(&[&unknown], Some(run("x", &[(0, "/", 0)])));
        definitions.push(early.end(&used));
        for mounts in [
            &[][..],
            &[(7, "/", 0)],
            &[(0, "/", 3)],
            &[(0, "/", 0), (0, "/x", 0)],
        ] {
            let mut writer = Writer::default();
            let image = writer.source("docker-image://a", &[]);
            let ran = writer.add(&[&image], Some(run("x", mounts)));
            definitions.push(writer.end(&ran));
        }
        let mut deep = Writer::default();
        let mut last = deep.source("docker-image://a", &[]);
        for number in 0..3000 {
            last = deep.add(&[&last], Some(run(&number.to_string(), &[(0, "/", 0)])));
        }
        definitions.push(deep.end(&last));
        let many = vec![vec![0]; 20_000];
        definitions.push(pb::Definition {
            def: many,
            ..pb::Definition::default()
        });
        for (number, definition) in definitions.iter().enumerate() {
            let refused = compiled(definition);
            assert!(
                matches!(refused, Err(LlbError::Malformed(_))),
                "{number}: {refused:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused(def in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..6)) {
            let definition = pb::Definition { def, ..pb::Definition::default() };
            prop_assert!(compiled(&definition).is_err());
        }

        #[test]
        fn changed_bytes_do_no_harm(place in 0usize..200, byte in any::<u8>()) {
            let mut writer = Writer::default();
            let image = writer.source("docker-image://a", &[]);
            let ran = writer.add(&[&image], Some(run("x", &[(0, "/", 0), (-1, "/y", 1)])));
            let mut definition = writer.end(&ran);
            let count = definition.def.len();
            let op = &mut definition.def[place % count];
            let at = place % op.len();
            op[at] = byte;
            // It is refused, or is another one.
            _ = compiled(&definition);
        }
    }
}

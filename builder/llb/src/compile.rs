//! Each operation of a definition as steps of a graph.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard_buildkit_proto::pb;
use bollard_buildkit_proto::pb::op::Op as Operation;
use kiln_graph::{
    Build, FileAction, Files, Graph, GraphBuilder, ImageConfig, ImageRequest, ImageTable, Input,
    Op, Platform, Reuse, Step, StepId, Target,
};

use crate::definition::{Ordered, Vertex, read};
use crate::error::{LlbError, malformed, unsupported};
use crate::source::{LocalSource, RESULT, Source, source};

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

/// A definition doesn't become more steps, nor steps that stand on more others, one upon the other.
const MAX_STEPS: usize = 10_000;
const MAX_DEPTH: usize = 2_000;
/// Names of steps are shown up to here, in bytes.
const MAX_NAME: usize = 1_024;
/// The parts of a platform are no longer, in bytes.
const MAX_PLATFORM: usize = 128;

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
        depths: Vec::new(),
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
    let mut graph = GraphBuilder::new(host.clone());
    let root = graph.scratch();
    let root = root.map_err(|error| malformed(error.to_string()))?;
    let (build, locals) = (graph.build(root), BTreeMap::new());
    Ok(Outcome::Done(Box::new(Compiled { build, locals })))
}

/// The results of other builds that a definition is made from, by their identifiers.
///
/// # Errors
/// When it is malformed.
pub fn results_in(definition: &pb::Definition) -> Result<BTreeSet<String>, LlbError> {
    if definition.def.is_empty() {
        return Ok(BTreeSet::new());
    }
    let ordered = read(definition)?;
    let results = ordered
        .vertices
        .iter()
        .filter_map(|vertex| match &vertex.op.op {
            Some(Operation::Source(op)) => op.identifier.strip_prefix(RESULT).map(str::to_owned),
            _ => None,
        });
    Ok(results.collect())
}

/// The images that aren't known.
fn missing(
    ordered: &Ordered<'_>,
    host: &Platform,
    images: &ImageTable,
) -> Result<BTreeSet<ImageRequest>, LlbError> {
    let mut needed = BTreeSet::new();
    for vertex in &ordered.vertices {
        if let Some(Operation::Source(op)) = &vertex.op.op
            && let Source::Image(name) = source(op)?
        {
            let platform = platform_of(&vertex.op, host)?;
            let request = ImageRequest { name, platform };
            if !images.contains_key(&request) {
                needed.insert(request);
            }
        }
    }
    Ok(needed)
}

fn platform_of(op: &pb::Op, host: &Platform) -> Result<Platform, LlbError> {
    let given = op.platform.as_ref();
    let Some(given) = given.filter(|platform| !platform.os.is_empty()) else {
        return Ok(host.clone());
    };
    let parts = [
        &given.os,
        &given.architecture,
        &given.variant,
        &given.os_version,
    ];
    match parts.iter().any(|part| part.len() > MAX_PLATFORM) {
        true => Err(malformed("a platform with a long name")),
        false => Ok(
            Platform::new(&given.os, &given.architecture, &given.variant)
                .with_os_version(&given.os_version),
        ),
    }
}

/// An operation whose steps are being made.
pub(crate) struct Place<'a> {
    pub(crate) op: &'a pb::Op,
    vertex: &'a Vertex<'a>,
    platform: Platform,
    name: String,
}

/// Makes steps.
pub(crate) struct Compiler<'a> {
    host: &'a Platform,
    images: &'a ImageTable,
    graph: Graph,
    /// How many steps each step stands on, one upon the other.
    depths: Vec<usize>,
    /// The results of operations, by digest and number.
    made: HashMap<(String, usize), StepId>,
    locals: BTreeMap<String, LocalSource>,
}

impl Compiler<'_> {
    fn vertex(&mut self, vertex: &Vertex<'_>) -> Result<(), LlbError> {
        let place = Place {
            op: &vertex.op,
            vertex,
            platform: platform_of(&vertex.op, self.host)?,
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
        let depths = inputs.iter().map(|input| self.depths[input.index()] + 1);
        let depth = depths.max().unwrap_or(0);
        if self.graph.len() >= MAX_STEPS || depth > MAX_DEPTH {
            return Err(malformed(format!(
                "it becomes more than {MAX_STEPS} steps, or more than {MAX_DEPTH} upon each other"
            )));
        }
        let step = Step {
            reuse: match place.vertex.metadata.is_some_and(|it| it.ignore_cache) {
                true => Reuse::Never,
                false => Reuse::Always,
            },
            ..Step::plain(&place.name, op, place.platform.clone())
        };
        let added = self.graph.add(step, inputs);
        self.depths.push(depth);
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
                let inputs = vec![lower, upper];
                let (lower, upper) = (Input(0), Input(1));
                let actions = vec![FileAction::Difference { lower, upper }];
                let base = None;
                self.add(place, Op::Files(Files { base, actions }), inputs)?
            }
        };
        self.output(place, 0, step)
    }
}

/// What people are shown: the author's own name, else what the operation does. Each step of it has a copy.
fn name_of(vertex: &Vertex<'_>) -> String {
    let description = vertex.metadata.map(|metadata| &metadata.description);
    if let Some(name) = description.and_then(|it| it.get("llb.customname")) {
        return shown([name.as_str()], "");
    }
    match &vertex.op.op {
        Some(Operation::Source(op)) => shown([op.identifier.as_str()], ""),
        Some(Operation::Exec(op)) => {
            let args = op.meta.iter().flat_map(|meta| &meta.args);
            shown(args.map(String::as_str), " ")
        }
        Some(Operation::File(op)) => {
            let verbs = op.actions.iter().map(|action| verb(action.action.as_ref()));
            shown(verbs, ", ")
        }
        Some(Operation::Merge(_)) => "merge".to_owned(),
        Some(Operation::Diff(_)) => "diff".to_owned(),
        Some(Operation::Build(_)) | None => String::new(),
    }
}

/// Parts as one text, which ends where a name does at most.
fn shown<T: AsRef<str>>(parts: impl IntoIterator<Item = T>, between: &str) -> String {
    let mut text = String::new();
    for (number, part) in parts.into_iter().enumerate() {
        if number > 0 {
            text.push_str(between);
        }
        text.push_str(part.as_ref());
        if text.len() > MAX_NAME {
            let end = text.floor_char_boundary(MAX_NAME);
            text.truncate(end);
            text.push('…');
            break;
        }
    }
    text
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

    fn mkdir(input: i64, number: i64) -> pb::FileAction {
        let directory = pb::FileActionMkDir {
            path: "/a".to_owned(),
            mode: 0o755,
            timestamp: -1,
            ..pb::FileActionMkDir::default()
        };
        pb::FileAction {
            input,
            secondary_input: -1,
            output: number,
            action: Some(Action::Mkdir(directory)),
        }
    }

    /// A definition of one operation.
    fn only(op: Operation) -> pb::Definition {
        let mut writer = Writer::default();
        let input = writer.add(&[], Some(op));
        writer.end(&input)
    }

    #[test]
    fn steps_are_counted_and_not_operations() {
        let files = |count: i64, input: fn(i64) -> i64| {
            let actions = (0..count).map(|number| mkdir(input(number), number));
            only(Operation::File(pb::FileOp {
                actions: actions.collect(),
            }))
        };
        let copies = |count: i64| {
            let copy = pb::FileActionCopy {
                src: "/a".to_owned(),
                dest: "/b".to_owned(),
                timestamp: -1,
                mode: -1,
                ..pb::FileActionCopy::default()
            };
            let actions = (0..count).map(|number| pb::FileAction {
                input: number - 1,
                secondary_input: -1,
                output: if number + 1 == count { 0 } else { -1 },
                action: Some(Action::Copy(copy.clone())),
            });
            only(Operation::File(pb::FileOp {
                actions: actions.collect(),
            }))
        };
        let mounts = |count: i64| {
            let names: Vec<String> = (1..count).map(|number| format!("/m{number}")).collect();
            let others = (1..)
                .zip(&names)
                .map(|(number, name)| (-1, name.as_str(), number));
            let all: Vec<_> = std::iter::once((-1, "/", 0)).chain(others).collect();
            only(run("true", &all))
        };
        let upon = |number: i64| number - 1;
        let beside = |_| -1;
        for (definition, is_taken) in [
            (files(2_000, upon), true),
            (files(2_002, upon), false),
            (files(10_000, beside), true),
            (files(10_001, beside), false),
            (copies(9_999), true),
            (copies(10_000), false),
            (mounts(9_997), true),
            (mounts(10_001), false),
        ] {
            match compiled(&definition) {
                Ok(_) => assert!(is_taken),
                Err(error) => assert!(!is_taken && error.to_string().contains("steps"), "{error}"),
            }
        }
    }

    #[test]
    fn what_each_step_has_a_copy_of_is_short() {
        let actions = (0..100).map(|number| mkdir(-1, number)).collect();
        let mut definition = only(Operation::File(pb::FileOp { actions }));
        let digest = BlobDigest::of(&definition.def[0]).to_string();
        let name = "ñ".repeat(1 << 20);
        let metadata = pb::OpMetadata {
            description: [("llb.customname".to_owned(), name)].into(),
            ..pb::OpMetadata::default()
        };
        _ = definition.metadata.insert(digest, metadata);
        let long = only(run(&"x ".repeat(20_000), &[(-1, "/", 0)]));
        for definition in [definition, long] {
            let compiled = compiled(&definition).unwrap();
            for (_, step) in compiled.build.graph.steps() {
                let name = &step.name.text;
                assert!(name.len() <= MAX_NAME + 3 && name.ends_with('…'), "{name}");
            }
        }
        let op = pb::Op {
            op: Some(run("x", &[(-1, "/", 0)])),
            platform: Some(pb::Platform {
                os: "x".repeat(1 << 20),
                ..pb::Platform::default()
            }),
            ..pb::Op::default()
        };
        let bytes = op.encode_to_vec();
        let digest = BlobDigest::of(&bytes).to_string();
        let mut writer = Writer::default();
        writer.definition.def.push(bytes);
        let definition = writer.end(&pb::Input { digest, index: 0 });
        let error = compiled(&definition).unwrap_err().to_string();
        assert!(error.contains("platform") && error.len() < 200, "{error}");
    }

    #[test]
    fn an_operation_is_there_once() {
        let mut definition = only(run("x", &[(-1, "/", 0)]));
        definition.def.insert(0, definition.def[0].clone());
        let error = compiled(&definition).unwrap_err().to_string();
        assert!(error.contains("twice"), "{error}");
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

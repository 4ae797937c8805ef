//! An order as an action of the API: a tree of inputs, a command, and what a worker must offer. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::protobuf;
use kiln_graph::WorkerProperties;
use reapi::{Action, Command, Digest, Directory, DirectoryNode, FileNode, Platform};

use crate::digest::Stored;
use crate::order::HELPER;
use crate::report::OUT;

/// How the API names Linux and processors (platform properties of the API's lexicon).
pub(crate) const OS_FAMILY: &str = "OSFamily";
pub(crate) const ISA: &str = "ISA";

/// Files by their paths below the action's directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputRoot(Node);

/// A file or a directory of inputs.
#[derive(Clone, Debug)]
enum Node {
    File { digest: Digest, executable: bool },
    Directory(BTreeMap<String, Node>),
}

impl Default for Node {
    fn default() -> Self {
        Self::Directory(BTreeMap::new())
    }
}

impl InputRoot {
    /// Adds a file. Whatever is a file on the way gives way.
    pub(crate) fn add(&mut self, path: &str, digest: Digest, executable: bool) {
        let mut node = &mut self.0;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if let Node::File { .. } = node {
                *node = Node::default();
            }
            let Node::Directory(entries) = node else {
                return;
            };
            node = entries.entry(name.to_owned()).or_default();
        }
        *node = Node::File { digest, executable };
    }

    /// The directories as messages, and the digest of the topmost.
    pub(crate) fn messages(&self) -> (Digest, Vec<Stored>) {
        let mut messages = Vec::new();
        let root = match &self.0 {
            Node::Directory(entries) => store(entries, &mut messages),
            Node::File { .. } => store(&BTreeMap::new(), &mut messages),
        };
        (root, messages)
    }
}

/// Entries are sorted by name, as the API wants them: so a map has them.
fn store(entries: &BTreeMap<String, Node>, messages: &mut Vec<Stored>) -> Digest {
    let mut directory = Directory::default();
    for (name, node) in entries {
        let name = name.clone();
        match node {
            Node::File { digest, executable } => directory.files.push(FileNode {
                name,
                digest: Some(digest.clone()),
                is_executable: *executable,
                ..FileNode::default()
            }),
            Node::Directory(entries) => directory.directories.push(DirectoryNode {
                name,
                digest: Some(store(entries, messages)),
            }),
        }
    }
    let stored = Stored::message(&directory);
    let digest = stored.digest.clone();
    messages.push(stored);
    digest
}

/// What a worker must offer, by name and value: what a step asks comes before what the user says of
/// all steps, and both before its platform.
pub(crate) fn properties(
    architecture: &str,
    given: &[(String, String)],
    asked: &WorkerProperties,
) -> BTreeMap<String, Vec<String>> {
    let mut properties: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in given {
        properties
            .entry(name.clone())
            .or_default()
            .push(value.clone());
    }
    let asked = asked.iter();
    properties.extend(asked.map(|(name, value)| (name.to_owned(), vec![value.to_owned()])));
    for (name, value) in [(OS_FAMILY, "linux"), (ISA, isa(architecture))] {
        let usual = || vec![value.to_owned()];
        _ = properties.entry(name.to_owned()).or_insert_with(usual);
    }
    for values in properties.values_mut() {
        // An empty value takes a property back that a server doesn't know.
        values.retain(|value| !value.is_empty());
        values.sort();
    }
    properties.retain(|_, values| !values.is_empty());
    properties
}

/// An architecture as the API's lexicon has it; others keep their name.
pub(crate) fn isa(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86-64",
        "386" => "x86-32",
        "arm64" => "arm-a64",
        "arm" => "arm-a32",
        other => other,
    }
}

/// An action, and the messages that it is made of.
#[derive(Clone, Debug)]
pub(crate) struct OrderedAction {
    pub(crate) digest: Digest,
    pub(crate) messages: Vec<Stored>,
}

impl OrderedAction {
    /// The action that runs the helper on some inputs. Its result is never taken from a cache, nor
    /// put into one: kiln's own keys say when a step's result can be used again.
    pub(crate) fn new(
        inputs: &InputRoot,
        properties: &BTreeMap<String, Vec<String>>,
        timeout: Option<Duration>,
    ) -> Self {
        let (root, mut messages) = inputs.messages();
        let platform = platform(properties);
        let command = Stored::message(&command(platform.clone()));
        let action = Stored::message(&Action {
            command_digest: Some(command.digest.clone()),
            input_root_digest: Some(root),
            timeout: timeout.map(duration),
            do_not_cache: true,
            platform: Some(platform),
            ..Action::default()
        });
        let digest = action.digest.clone();
        messages.extend([command, action]);
        Self { digest, messages }
    }
}

fn platform(properties: &BTreeMap<String, Vec<String>>) -> Platform {
    let pairs = properties.iter();
    let pairs = pairs.flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let property = |(name, value): (&String, &String)| reapi::platform::Property {
        name: name.clone(),
        value: value.clone(),
    };
    Platform {
        properties: pairs.map(property).collect(),
    }
}

/// Servers before version 2.1 read the old fields, later ones the new.
#[expect(deprecated, reason = "old servers read nothing else")]
fn command(platform: Platform) -> Command {
    Command {
        arguments: vec![format!("./{HELPER}")],
        environment_variables: vec![reapi::command::EnvironmentVariable {
            name: "PATH".to_owned(),
            value: "/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        }],
        output_directories: vec![OUT.to_owned()],
        output_paths: vec![OUT.to_owned()],
        platform: Some(platform),
        ..Command::default()
    }
}

fn duration(time: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::of_bytes;
    use prost::Message as _;

    #[test]
    fn directories_are_sorted_and_name_their_children() {
        let mut inputs = InputRoot::default();
        let digest = of_bytes(b"x");
        for path in ["b", "a/z", "a/b/c", "/a/a"] {
            inputs.add(path, digest.clone(), path == "b");
        }
        let (root, messages) = inputs.messages();
        let directory = |digest: &Digest| {
            let stored = messages.iter().find(|stored| stored.digest == *digest);
            Directory::decode(&stored.unwrap().bytes[..]).unwrap()
        };
        let names = |directory: &Directory| {
            let files = directory.files.iter().map(|file| file.name.clone());
            let below = directory.directories.iter().map(|one| one.name.clone());
            (files.collect::<Vec<_>>(), below.collect::<Vec<_>>())
        };
        let top = directory(&root);
        assert_eq!(names(&top), (vec!["b".into()], vec!["a".into()]));
        assert!(top.files[0].is_executable);
        let a = directory(top.directories[0].digest.as_ref().unwrap());
        assert_eq!(names(&a), (vec!["a".into(), "z".into()], vec!["b".into()]));
        assert_eq!(messages.len(), 3);
    }

    #[test]
    fn what_is_said_of_workers_comes_before_what_is_usual() {
        let given = |pairs: &[(&str, &str)], asked: &str| {
            let pairs = pairs.iter();
            let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let pairs: Vec<_> = pairs.collect();
            properties("arm64", &pairs, &asked.parse().unwrap())
                .into_iter()
                .map(|(name, values)| format!("{name}={}", values.join("+")))
                .collect::<Vec<_>>()
        };
        assert_eq!(given(&[], ""), ["ISA=arm-a64", "OSFamily=linux"]);
        let all = [("pool", "large"), ("ISA", "any"), ("OSFamily", "")];
        assert_eq!(given(&all, ""), ["ISA=any", "pool=large"]);
        assert_eq!(
            given(&all, "pool=small gpu=1 ISA="),
            ["gpu=1", "pool=small"]
        );
    }

    #[test]
    fn an_action_is_never_cached_and_names_its_parts() {
        let timeout = Some(Duration::from_millis(1500));
        let properties = properties("amd64", &[], &WorkerProperties::none());
        let ordered = OrderedAction::new(&InputRoot::default(), &properties, timeout);
        let find = |digest: &Digest| {
            let stored = ordered.messages.iter().find(|one| one.digest == *digest);
            stored.unwrap().bytes.clone()
        };
        let action = Action::decode(&find(&ordered.digest)[..]).unwrap();
        assert!(action.do_not_cache);
        assert_eq!(action.timeout.unwrap().nanos, 500_000_000);
        let command = Command::decode(&find(&action.command_digest.unwrap())[..]).unwrap();
        assert_eq!(command.arguments, ["./kiln-step"]);
        assert_eq!(command.output_paths, ["out"]);
        assert_eq!(find(&action.input_root_digest.unwrap()), b"");
    }
}

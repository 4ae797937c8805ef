//! `kiln bake`: builds the targets of bake files and compose files, each by a `kiln build`.
//!
//! A target whose result is another's context is built first, under a name that no registry can have
//! (RFC 2606, section 2: `.invalid`), and that is removed when all is built.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use kiln::output::Output;
use kiln::{ContextFrom, Error, file_text};
use kiln_bake::{Bake, BakeError, Override, Project, Source, Target, linked_target};
use kiln_graph::address::{IMAGE_SCHEME, redact};
use kiln_graph::{Digest, parse_bool};
use tempfile::TempDir;

use super::bake_again::go_on;
use super::bake_permission::Permissions;
use super::bake_words::{LISTS, MAPS, OUTPUTS, TEXTS, file_flag, input, lists};
use super::{Failed, bake_check, child, print_json_text, result, say};
use crate::display;

/// The files that are read when none is named: those of them that are there, in this order.
const FILES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.override.json",
    "docker-bake.hcl",
    "docker-bake.override.hcl",
];

/// The flags of `kiln bake`, named as `docker buildx bake` names them.
#[derive(Args, Debug)]
pub(crate) struct BakeArgs {
    /// Targets and groups to build (default: the group or target named default)
    pub(super) targets: Vec<String>,
    /// A bake file (HCL or JSON) or a compose file (repeatable; default: docker-bake.hcl,
    /// compose.yaml and their kin)
    #[arg(short, long = "file", value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Set an attribute of targets: TARGET.KEY=VALUE; TARGET may be a pattern with * (repeatable)
    #[arg(long = "set", value_name = "TARGET.KEY=VALUE")]
    pub(super) sets: Vec<String>,
    /// Print the targets as JSON instead of building them
    #[arg(long)]
    print: bool,
    /// Push the images: --set '*.push=true'
    #[arg(long)]
    pub(super) push: bool,
    /// Load the images into the Docker daemon: --set '*.output=type=docker'
    #[arg(long)]
    pub(super) load: bool,
    /// Run every step, whatever is stored
    #[arg(long)]
    no_cache: bool,
    /// Ask registries for base images, whatever is stored
    #[arg(long)]
    pub(super) pull: bool,
    /// Allow what targets ask for: network.host, security.insecure, ssh, fs.read=DIR, fs.write=DIR,
    /// fs=DIR, cache (repeatable)
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(super) allow: Vec<String>,
    /// How progress is shown
    #[arg(long, value_name = "STYLE", default_value = "auto")]
    pub(super) progress: String,
    /// Write the results' digests to a file, as JSON, by target
    #[arg(long, value_name = "FILE")]
    pub(super) metadata_file: Option<PathBuf>,
    /// Only check the build files
    #[arg(long)]
    pub(super) check: bool,
    /// Attach provenance attestations: --set '*.attest=type=provenance'
    #[arg(long, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) provenance: Option<String>,
    /// Attach lists of packages: --set '*.attest=type=sbom'
    #[arg(long, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) sbom: Option<String>,
    /// The builder: kiln or default
    #[arg(long, hide = true, value_name = "NAME")]
    builder: Option<String>,
}

/// Runs `kiln bake`.
pub(crate) fn run(args: &BakeArgs) -> Result<(), Failed> {
    refuse_remote(args)?;
    let project = project(args)?;
    for text in project.warnings() {
        say(&format!("WARNING: {text}"));
    }
    let bake = project
        .bake(&args.targets, &overrides(args)?, &variable)
        .map_err(wrong)?;
    if args.print {
        let text = serde_json::to_string_pretty(&bake).map_err(|error| wrong_text(&error))?;
        print_json_text(&format!("{text}\n"));
        return Ok(());
    }
    let run = Run::new(args, &bake)?;
    for name in run.in_order() {
        run.permissions.check(&name, &bake.targets[&name])?;
    }
    run.check()?;
    run.all()?;
    // After a failure, 'kiln shell' needs them.
    run.forget_links();
    Ok(())
}

/// Where a target leaves files that others may be made from.
fn written(target: &Target) -> Vec<PathBuf> {
    let outputs = target.list("output").into_iter();
    let outputs = outputs.filter_map(|text| text.parse::<Output>().ok());
    let places = outputs.filter_map(|output| bake_check::place(output.dest()?).ok());
    places.collect()
}

/// Says whose build follows.
fn begin(name: &str, purpose: &str) {
    match display::is_for_program() {
        true => display::event("image", &serde_json::json!({ "name": name })),
        false => say(&format!("==> {name}{purpose}")),
    }
}

/// Other builders read bake files of repositories and web servers.
fn refuse_remote(args: &BakeArgs) -> Result<(), Error> {
    let files = args.files.iter().filter_map(|file| file.to_str());
    let mut all = files.chain(args.targets.iter().map(String::as_str));
    match all.find(|word| matches!(ContextFrom::from(*word), ContextFrom::Remote(_))) {
        None => Ok(()),
        Some(address) => Err(Error::Usage(format!(
            "{}: bake files are not read from other places: clone the repository or get the file, and run kiln bake there",
            redact(address)
        ))),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn wrong(error: BakeError) -> Error {
    Error::Usage(error.0)
}

fn wrong_text(error: &dyn std::fmt::Display) -> Error {
    Error::Usage(error.to_string())
}

fn overrides(args: &BakeArgs) -> Result<Vec<Override>, Error> {
    let sets = args.sets.iter().map(|set| set.parse());
    let mut all: Vec<Override> = sets.collect::<Result<_, _>>().map_err(wrong)?;
    for (given, key, value) in [
        (args.no_cache, "no-cache", "true"),
        (args.pull, "pull", "true"),
        (args.load, "output", "type=docker"),
        (args.push, "push", "true"),
    ] {
        if given {
            all.push(Override::of_all(key, value));
        }
    }
    for (kind, given) in [("provenance", &args.provenance), ("sbom", &args.sbom)] {
        if let Some(value) = given {
            let value = match parse_bool(value) {
                Some(true) => "disabled=false",
                Some(false) => "disabled=true",
                None => value,
            };
            all.push(Override::of_all("attest", &format!("type={kind},{value}")));
        }
    }
    Ok(all)
}

fn project(args: &BakeArgs) -> Result<Project, Error> {
    let here = FILES.iter().map(PathBuf::from);
    let files: Vec<PathBuf> = match args.files.as_slice() {
        [] => here.filter(|file| file.exists()).collect(),
        named => named.to_vec(),
    };
    if files.is_empty() {
        let all = FILES.join(", ");
        let text = format!("there is no bake file here: name one with -f, or write one of {all}");
        return Err(Error::Usage(text));
    }
    let read = |file: &PathBuf| {
        let text = match file.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()),
            false => std::fs::read_to_string(file),
        };
        let name = file.display().to_string();
        text.map(|text| Source { name, text })
            .map_err(Error::file("read", file))
    };
    let sources: Vec<Source> = files.iter().map(read).collect::<Result<_, Error>>()?;
    let dotenv = Path::new(".env");
    let dotenv = match dotenv.is_file() {
        true => Some(file_text(dotenv)?),
        false => None,
    };
    let permissions = Permissions::new(&args.allow)?;
    let file = |name: &str| named_file(&permissions, Path::new(name));
    kiln_bake::read(&sources, dotenv.as_deref(), &variable, &file).map_err(wrong)
}

/// A file that a compose file names, which may be a stranger's.
fn named_file(permissions: &Permissions, path: &Path) -> Result<Option<String>, BakeError> {
    let allowed = permissions.reads(path);
    allowed.map_err(|asked| BakeError(format!("it {asked}")))?;
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BakeError(format!(
            "cannot read {}: {error}",
            path.display()
        ))),
    }
}

/// What builds gave, by target.
type Results = BTreeMap<String, serde_json::Value>;

/// A bake that is under way.
struct Run<'a> {
    args: &'a BakeArgs,
    bake: &'a Bake,
    permissions: Permissions,
    /// What the builds read and write besides their results.
    directory: TempDir,
    /// The repository of the names of targets that are others' contexts.
    repository: String,
}

impl<'a> Run<'a> {
    fn new(args: &'a BakeArgs, bake: &'a Bake) -> Result<Self, Error> {
        let here = std::env::current_dir().map_err(Error::file("find", Path::new(".")))?;
        let place = Digest::of(here.as_os_str().as_encoded_bytes()).short();
        let directory = tempfile::tempdir().map_err(Error::file("make", &std::env::temp_dir()))?;
        Ok(Self {
            args,
            bake,
            permissions: Permissions::new(&args.allow)?,
            directory,
            repository: format!("{}/{place}", result::LINKS),
        })
    }

    /// Looks for what is wrong with any build.
    fn check(&self) -> Result<(), Failed> {
        let mut made = Vec::new();
        for name in self.in_order() {
            let target = &self.bake.targets[&name];
            if self.is_linked(&name) {
                bake_check::check(&name, &self.link_words(&name, target), &made)?;
            }
            if self.bake.wanted.contains(&name) {
                let words = self.words(&name, target, &self.metadata_file(&name));
                bake_check::check(&name, &words, &made)?;
                made.extend(written(target));
            }
        }
        Ok(())
    }

    /// Where a target's build says what it gave.
    fn metadata_file(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.json"))
    }

    fn all(&self) -> Result<(), Failed> {
        let mut results = Results::new();
        for name in self.in_order() {
            if let Err(mut failed) = self.one(&name, &mut results) {
                if !self.args.check {
                    let wanted = self.bake.wanted.iter();
                    // Of what was built the metadata is written with the rest.
                    let all = self.args.metadata_file.is_some();
                    let left = wanted.filter(|name| all || !results.contains_key(*name));
                    let again = go_on(self.args, left);
                    let text = format!("\nTo go on from there:              {again}");
                    failed.text.push_str(&text);
                }
                return Err(failed);
            }
        }
        if let Some(path) = &self.args.metadata_file {
            result::write_metadata(path, &results)?;
        }
        Ok(())
    }

    /// Builds a target: for others, and for itself.
    fn one(&self, name: &str, results: &mut Results) -> Result<(), Failed> {
        let target = &self.bake.targets[name];
        if self.is_linked(name) {
            begin(name, ", for others");
            self.build(name, &self.link_words(name, target))?;
        }
        if self.bake.wanted.iter().any(|own| own == name) {
            begin(name, "");
            let file = self.metadata_file(name);
            self.build(name, &self.words(name, target, &file))?;
            let result = std::fs::read_to_string(&file).unwrap_or_default();
            let result = serde_json::from_str(&result).unwrap_or_default();
            results.insert(name.to_owned(), result);
        }
        Ok(())
    }

    /// The targets in the order they were asked for, those before others whose contexts they are.
    fn in_order(&self) -> Vec<String> {
        let mut order = Vec::new();
        for name in &self.bake.wanted {
            self.add_in_order(name, &mut order);
        }
        order
    }

    fn add_in_order(&self, name: &str, order: &mut Vec<String>) {
        if order.iter().any(|own| own == name) {
            return;
        }
        if let Some(target) = self.bake.targets.get(name) {
            for link in target.links() {
                self.add_in_order(&link, order);
            }
            order.push(name.to_owned());
        }
    }

    /// Whether a target is a context of another.
    fn is_linked(&self, name: &str) -> bool {
        let mut links = self.bake.targets.values().flat_map(Target::links);
        links.any(|link| link == name)
    }

    fn link(&self, name: &str) -> String {
        format!("{}/{}:latest", self.repository, name.to_lowercase())
    }

    /// Removes the names of targets that were others' contexts. One that stays does no harm.
    fn forget_links(&self) {
        let linked = self.bake.targets.keys().filter(|name| self.is_linked(name));
        let mut linked = linked.peekable();
        if linked.peek().is_none() {
            return;
        }
        if let Ok(engine) = super::open() {
            for name in linked {
                _ = engine.store().images().remove(&self.link(name));
            }
        }
    }

    /// Builds in a process of its own, as each build changes what its process may do.
    fn build(&self, name: &str, words: &[String]) -> Result<(), Failed> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("kiln").args(words);
        if let Some(text) = self.bake.targets[name].text("dockerfile-inline") {
            command.stdin(input(text)?);
        }
        let ended = child::run(command).map_err(Error::file("start", Path::new("kiln build")))?;
        match u8::try_from(ended.code().unwrap_or(1)).unwrap_or(1) {
            0 => Ok(()),
            status => Err(Failed {
                text: format!("ERROR: the target {name} was not built"),
                status,
            }),
        }
    }

    /// The command line that builds a target as others' context.
    fn link_words(&self, name: &str, target: &Target) -> Vec<String> {
        let mut words = vec!["build".to_owned(), format!("--tag={}", self.link(name))];
        words.extend(self.shared_words(name, target));
        words
    }

    /// The command line that builds a target.
    fn words(&self, name: &str, target: &Target, metadata: &Path) -> Vec<String> {
        let mut words = vec!["build".to_owned()];
        words.extend(lists(target, OUTPUTS));
        let call = target.text("call").filter(|call| !call.is_empty());
        words.extend(call.map(|call| format!("--call={call}")));
        if self.args.check {
            words.push("--check".to_owned());
        }
        words.push(format!("--metadata-file={}", metadata.display()));
        words.extend(self.shared_words(name, target));
        words
    }

    /// What a build of a target is told wherever its result goes.
    fn shared_words(&self, name: &str, target: &Target) -> Vec<String> {
        let mut words = lists(target, LISTS);
        for (attribute, flag) in MAPS {
            for (key, value) in target.pairs(attribute) {
                let value = match (*attribute, linked_target(&value)) {
                    ("contexts", Some(link)) => format!("{IMAGE_SCHEME}{}", self.link(link)),
                    _ => value,
                };
                words.push(format!("--{flag}={key}={value}"));
            }
        }
        for (attribute, flag) in TEXTS {
            let given = target.text(attribute).filter(|text| !text.is_empty());
            words.extend(given.map(|value| format!("--{flag}={value}")));
        }
        let allowed = self.permissions.of_build().iter();
        words.extend(allowed.map(|value| format!("--allow={value}")));
        for (flag, given) in [
            ("--no-cache", target.flag("no-cache")),
            ("--pull", target.flag("pull")),
        ] {
            if given {
                words.push(flag.to_owned());
            }
        }
        let builder = self.args.builder.iter();
        words.extend(builder.map(|name| format!("--builder={name}")));
        words.push(format!("--progress={}", self.args.progress));
        words.push(format!("--bake-target={name}"));
        words.extend(file_flag(target));
        words.push("--foreign-contexts".to_owned());
        let context = target.text("context").unwrap_or(".");
        words.extend(["--".to_owned(), context.to_owned()]);
        words
    }
}

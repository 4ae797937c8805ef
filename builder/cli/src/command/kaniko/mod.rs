//! `kiln kaniko`, and kiln under the name `executor`: the command line of kaniko's executor, for
//! pipelines that were written for it.

mod flag;
mod translate;

use std::path::Path;

use clap::Parser as _;

use self::translate::{Translated, translate};
use super::{Cli, Command, Failed, build};
use kiln::{Config, Error};

/// The name under which kiln reads kaniko's command line.
pub(super) const EXECUTOR: &str = "executor";

/// Where the digest of what was built goes, in kaniko's forms.
#[derive(Clone, Copy, Debug)]
enum DigestForm {
    Digest,
    Name,
    NameAndTag,
}

const DIGEST_FILES: &[(&str, DigestForm)] = &[
    ("digest-file", DigestForm::Digest),
    ("image-name-with-digest-file", DigestForm::Name),
    ("image-name-tag-with-digest-file", DigestForm::NameAndTag),
];

/// Builds as kaniko's executor would with these arguments.
pub(super) fn run(args: &[String]) -> Result<(), Failed> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        let all = flag::names().collect::<Vec<_>>().join("\n  ");
        super::print(&format!(
            "Flags of kaniko's executor that kiln knows:\n  {all}\n"
        ));
        return Ok(());
    }
    let given = flag::parse(args).map_err(Error::Usage)?;
    let mut build = translate(&given, &|path| path.exists()).map_err(Error::Usage)?;
    let directory = tempfile::tempdir().map_err(|source| Error::File {
        what: "cannot make a temporary directory".to_owned(),
        source,
    })?;
    let metadata = directory.path().join("metadata.json");
    build.args.push("--metadata-file".to_owned());
    build.args.push(metadata.display().to_string());
    let wanted = DIGEST_FILES.iter().filter_map(|(name, form)| {
        let path = given.last(name)?;
        Some((Path::new(path).to_owned(), *form))
    });
    let wanted: Vec<_> = wanted.collect();
    let names = build.names.clone();
    run_build(build)?;
    for (path, form) in wanted {
        let text = in_form(form, &names, &digest_in(&metadata)?);
        std::fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

fn run_build(translated: Translated) -> Result<(), Failed> {
    Config::add_registries(translated.registries);
    if let Some(archive) = &translated.archive {
        read_from(archive).map_err(Error::file("read", archive))?;
    }
    let line = ["kiln", "build", "--progress", "plain"].map(str::to_owned);
    let cli = Cli::try_parse_from(line.into_iter().chain(translated.args));
    match cli
        .map_err(|error| Error::Usage(error.to_string()))?
        .command
    {
        Command::Build(args) => build::run(&args),
        _ => Ok(()),
    }
}

/// Makes a file this process's standard input.
fn read_from(path: &Path) -> std::io::Result<()> {
    Ok(rustix::stdio::dup2_stdin(std::fs::File::open(path)?)?)
}

/// The digest in a metadata file.
fn digest_in(metadata: &Path) -> Result<String, Error> {
    let read = || {
        let text = std::fs::read(metadata)?;
        let value: serde_json::Value = serde_json::from_slice(&text)?;
        let digest = value["containerimage.digest"].as_str();
        digest
            .map(str::to_owned)
            .ok_or_else(|| std::io::Error::other("it names no digest"))
    };
    read().map_err(|source: std::io::Error| Error::File {
        what: "cannot read the digest of what was built".to_owned(),
        source,
    })
}

/// A line for each name.
fn in_form(form: DigestForm, names: &[String], digest: &str) -> String {
    let line = |name: &String| {
        let tag_at = name.rfind(':').filter(|at| !name[*at..].contains('/'));
        match form {
            DigestForm::NameAndTag => format!("{name}@{digest}\n"),
            _ => format!("{}@{digest}\n", &name[..tag_at.unwrap_or(name.len())]),
        }
    };
    match form {
        DigestForm::Digest => digest.to_owned(),
        DigestForm::Name | DigestForm::NameAndTag => names.iter().map(line).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_in_their_forms() {
        let names = ["h:5000/a:1".to_owned(), "h:5000/b".to_owned()];
        let form = |form| in_form(form, &names, "sha256:x");
        assert_eq!(form(DigestForm::Digest), "sha256:x");
        assert_eq!(
            form(DigestForm::Name),
            "h:5000/a@sha256:x\nh:5000/b@sha256:x\n"
        );
        let tagged = "h:5000/a:1@sha256:x\nh:5000/b@sha256:x\n";
        assert_eq!(form(DigestForm::NameAndTag), tagged);
    }
}

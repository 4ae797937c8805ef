//! `kiln init`: a kiln.toml for the application in a directory.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use kiln_tree::host;

use super::{Failed, say};
use kiln::Error;

/// The flags of `kiln init`.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// The directory
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Replace a kiln.toml that is there
    #[arg(long)]
    force: bool,
}

/// A kind of application, by the file that gives it away.
struct Kind {
    file: &'static str,
    template: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        file: "Cargo.toml",
        template: include_str!("init/rust.toml"),
    },
    Kind {
        file: "package.json",
        template: include_str!("init/node.toml"),
    },
    Kind {
        file: "requirements.txt",
        template: include_str!("init/python.toml"),
    },
    Kind {
        file: "pyproject.toml",
        template: include_str!("init/pyproject.toml"),
    },
    Kind {
        file: "go.mod",
        template: include_str!("init/go.toml"),
    },
    Kind {
        file: "pom.xml",
        template: include_str!("init/maven.toml"),
    },
];

/// Runs `kiln init`.
pub(crate) fn run(args: &InitArgs) -> Result<(), Failed> {
    let path = args.directory.join("kiln.toml");
    // A link that leads nowhere is there, too.
    if path.symlink_metadata().is_ok() && !args.force {
        let text = format!(
            "{} is there already: give --force to replace it",
            path.display()
        );
        return Err(Error::Usage(text).into());
    }
    let own = kiln::build_file_in(&args.directory).filter(|own| *own != path);
    if let (Some(own), false) = (own, args.force) {
        let text = format!(
            "{} is there, and 'kiln build' would no longer use it beside a kiln.toml: 'kiln convert {} -o {}' writes it as one; --force starts afresh",
            own.display(),
            own.display(),
            path.display()
        );
        return Err(Error::Usage(text).into());
    }
    let kind = KINDS
        .iter()
        .find(|kind| args.directory.join(kind.file).exists());
    let kind = kind.ok_or_else(|| {
        let files: Vec<&str> = KINDS.iter().map(|kind| kind.file).collect();
        Error::Usage(format!(
            "{} has none of {}, by which an application is known: write a Dockerfile or a kiln.toml yourself ('kiln schema' describes its keys)",
            args.directory.display(),
            files.join(", ")
        ))
    })?;
    let text = kind
        .template
        .replace("APPLICATION", &name_of(&args.directory));
    let text = match has_npm_lock(&args.directory) {
        true => text,
        false => text.replace("npm ci", "npm install"),
    };
    host::replace(&path, |file| file.write_all(text.as_bytes()))
        .map_err(Error::file("write", &path))?;
    say(&format!(
        "wrote {} from {}: look it over, then run 'kiln build'",
        path.display(),
        kind.file
    ));
    Ok(())
}

/// Whether there is a lock file that `npm ci` needs.
fn has_npm_lock(directory: &Path) -> bool {
    let locks = ["package-lock.json", "npm-shrinkwrap.json"];
    locks.iter().any(|lock| directory.join(lock).exists())
}

/// The application's name: what its own file says, else the directory's.
fn name_of(directory: &Path) -> String {
    let read = |file: &str| {
        let bytes = kiln::read_inside(directory, Path::new(file)).ok()?;
        String::from_utf8(bytes).ok()
    };
    let cargo = read("Cargo.toml").and_then(|text| {
        let table: toml::Table = toml::from_str(&text).ok()?;
        Some(table.get("package")?.get("name")?.as_str()?.to_owned())
    });
    let whole = directory.canonicalize().ok();
    let own = whole.as_deref().and_then(Path::file_name);
    cargo
        .or_else(|| own.map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "app".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_a_kiln_toml() {
        for kind in KINDS {
            let none = |_: &kiln_frontend_toml::Included<'_>| Err(String::new());
            let file = kiln_frontend_toml::parse(kind.file, kind.template, &none).unwrap();
            assert_eq!(file.images.len(), 1, "{}", kind.file);
        }
    }
}

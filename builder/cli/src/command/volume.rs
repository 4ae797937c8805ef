//! `kiln volume`: the caches that steps keep.

use crate::human::format_size;
use clap::Subcommand;
use kiln_cache::{Kind, VolumeInfo};

use super::cache::{self, Specs};
use super::{Failed, print, print_json, say};
use kiln::{Engine, Error};

/// The commands of `kiln volume`.
#[derive(Subcommand, Debug)]
pub(crate) enum VolumeCommand {
    /// List the volumes
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the details of a volume
    Inspect {
        /// The volume
        name: String,
    },
    /// Remove volumes
    Rm {
        /// The volumes
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Export a volume to a directory, a registry or a bucket
    Export {
        /// The volume
        name: String,
        /// A directory, an image's name, s3://BUCKET/PREFIX, or a place as --cache-to has it
        dest: String,
    },
    /// Replace a volume with one that was exported
    Import {
        /// The volume
        name: String,
        /// A directory, an image's name, s3://BUCKET/PREFIX, or a place as --cache-from has it
        source: String,
    },
}

/// Runs `kiln volume`.
pub(crate) fn run(command: &VolumeCommand) -> Result<(), Failed> {
    let engine = super::open()?;
    match command {
        VolumeCommand::Ls { json } => list(&engine, *json)?,
        VolumeCommand::Inspect { name } => {
            let all = engine.store().volumes().all()?;
            let found = all.into_iter().find(|volume| volume.name == *name);
            let info = found.ok_or_else(|| no_such(name))?;
            print_json(&about(&engine, &info)?);
        }
        VolumeCommand::Rm { names } => {
            for name in names {
                if !engine.store().volumes().remove(name)? {
                    return Err(no_such(name).into());
                }
            }
        }
        VolumeCommand::Export { name, dest } => {
            if !engine
                .store()
                .volumes()
                .all()?
                .iter()
                .any(|volume| volume.name == *name)
            {
                return Err(no_such(name).into());
            }
            let remote = cache::place(&engine, dest)?;
            let sent = engine.export_volume(name, &*remote, None)?;
            print(&format!(
                "{name}: {}, {} sent\n",
                format_size(sent.plain),
                format_size(sent.sent)
            ));
        }
        VolumeCommand::Import { name, source } => {
            let specs = [cache::spec(source)];
            let sources = cache::sources(&engine, &Specs::of_flag("volume", &specs), &[])?;
            let found = engine.import_volume(name, &sources[0])?;
            let found =
                found.ok_or_else(|| Error::Usage(format!("{source} has no volume {name}")))?;
            print(&format!(
                "{name}: {}, {} fetched\n",
                format_size(found.plain),
                format_size(found.sent)
            ));
        }
    }
    Ok(())
}

fn no_such(name: &str) -> Error {
    Error::Usage(format!(
        "there is no volume {name} that could be used now; 'kiln volume ls' lists them"
    ))
}

fn list(engine: &Engine, json: bool) -> Result<(), Error> {
    let volumes = engine.store().volumes().all()?;
    if json {
        let all: Result<Vec<_>, Error> = volumes.iter().map(|info| about(engine, info)).collect();
        print_json(&serde_json::json!(all?));
        return Ok(());
    }
    if volumes.is_empty() {
        say("no cache volumes are kept yet");
    }
    for info in &volumes {
        let about = about(engine, info)?;
        let bytes = format_size(about["bytes"].as_u64().unwrap_or_default());
        let used = super::past::when(info.last_used * 1000);
        print(&format!(
            "{bytes:>10}  {used}  {:>5} uses  {}\n",
            info.uses, info.name
        ));
    }
    Ok(())
}

fn about(engine: &Engine, info: &VolumeInfo) -> Result<serde_json::Value, Error> {
    let name = kiln_graph::Digest::of(info.name.as_bytes()).to_string();
    let items = engine.store().usage()?.items;
    let own = items
        .iter()
        .find(|item| item.kind == Kind::Volume && item.name == name);
    Ok(serde_json::json!({
        "name": info.name,
        "last_used": info.last_used,
        "uses": info.uses,
        "bytes": own.map_or(0, |item| item.bytes),
        "directory": own.map(|item| item.path.display().to_string()),
    }))
}

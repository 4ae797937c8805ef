//! `kiln image mount`, `kiln image umount`.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use kiln::{Engine, Error, MountOptions, mount_image, mounted_images, unmount_image};
use kiln_tree::host;

use super::{child, print, say};
use crate::display::{Style, display};

/// The flags of `kiln image mount`.
#[derive(Args, Debug, Clone)]
pub(crate) struct MountArgs {
    /// The image, in the store, a registry or an archive; without it, the mounted images are listed
    #[arg(requires = "directory")]
    pub(super) name: Option<String>,
    /// An empty directory; it is made if its parent is there
    directory: Option<PathBuf>,
    /// Let nothing be changed
    #[arg(long, visible_alias = "ro", requires = "name")]
    read_only: bool,
    /// Let programs of the image change users, as su does: only where other users of the machine
    /// don't reach the directory
    #[arg(long, requires = "name")]
    allow_setuid: bool,
    /// Of several, the image for this platform
    #[arg(long, value_name = "OS/ARCH", requires = "name")]
    platform: Option<String>,
    /// A command to run while the image is mounted; it is unmounted when the command has ended
    #[arg(last = true, value_name = "COMMAND", requires = "name")]
    command: Vec<String>,
}

/// The flags of `kiln image umount`.
#[derive(Args, Debug, Clone)]
pub(crate) struct UmountArgs {
    /// The directories
    #[arg(required_unless_present = "all")]
    directories: Vec<PathBuf>,
    /// All images that are mounted
    #[arg(short, long, conflicts_with = "directories")]
    all: bool,
    /// Forget images that were mounted in a mount namespace that has ended
    #[arg(long)]
    forget: bool,
}

/// Runs `kiln image mount`; gives the exit status of the command that it runs, if it does.
pub(crate) fn mount(engine: &Engine, args: &MountArgs) -> Result<u8, Error> {
    let (Some(name), Some(directory)) = (&args.name, &args.directory) else {
        list(engine)?;
        return Ok(0);
    };
    let options = MountOptions {
        read_only: args.read_only,
        allow_setuid: args.allow_setuid,
        for_children: !args.command.is_empty(),
    };
    let platform = super::image_id::platform_of(engine, &[name], args.platform.as_deref())?;
    let made = make(directory)?;
    let events = display(Style::Auto);
    let mounted = mount_image(engine, name, &platform, directory, options, &*events);
    drop(events);
    if mounted.is_err() && made {
        _ = host::remove_dir(directory);
    }
    mounted?;
    let [program, words @ ..] = &args.command[..] else {
        let shown = directory.display();
        say(&format!(
            "mounted {name} on {shown}; 'kiln image umount {shown}' unmounts it and drops what was changed"
        ));
        return Ok(0);
    };
    let status = run(program, words);
    unmount_image(engine, directory, false)?;
    status
}

/// Runs `kiln image umount`.
pub(crate) fn umount(engine: &Engine, args: &UmountArgs) -> Result<(), Error> {
    let all = mounted_images(engine)?;
    let all = all.into_iter().map(|mount| mount.directory);
    let directories = match args.all {
        true => all.collect(),
        false => args.directories.clone(),
    };
    for directory in directories {
        unmount_image(engine, &directory, args.forget)?;
    }
    Ok(())
}

fn list(engine: &Engine) -> Result<(), Error> {
    for mount in mounted_images(engine)? {
        print(&format!("{}  {}\n", mount.directory.display(), mount.image));
    }
    Ok(())
}

/// Makes the directory where there is none; whether it did.
fn make(directory: &Path) -> Result<bool, Error> {
    match host::create_dir(directory) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(Error::file("make the directory", directory)(source)),
    }
}

/// Runs a command to its end; its exit status, as shells have it. Ctrl-C ends only the command, for the image
/// has to be unmounted.
fn run(program: &str, words: &[String]) -> Result<u8, Error> {
    use std::os::unix::process::ExitStatusExt as _;
    let mut command = Command::new(program);
    command.args(words);
    let ended = child::run(command).map_err(Error::file("run", Path::new(program)))?;
    let signal = ended.signal().map(|signal| 128 + signal);
    let status = ended.code().or(signal).unwrap_or(1);
    Ok(u8::try_from(status).unwrap_or(1))
}

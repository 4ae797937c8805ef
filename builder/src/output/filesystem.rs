//! Results as file systems in one file.

use std::io;
use std::path::Path;

use kiln_engine::{
    Event, Meter, OutputEntry, SquashfsCodec, write_cpio, write_erofs, write_ext4, write_squashfs,
};
use kiln_graph::ImagePath;
use kiln_tree::host;

use super::place::{fail, is_special, write_file};
use super::{Form, Job};
use crate::Error;

impl Job<'_> {
    /// Writes the only target's root as a file system.
    pub(super) fn file_system(&self, dest: &Path) -> Result<(), Error> {
        let [target] = &self.solved.build().targets[..] else {
            let text = format!(
                "-o type={} writes the files of one image: give one --platform",
                self.output.form.name()
            );
            return Err(Error::Usage(text));
        };
        let files = self.solved.root_files(target, self.events)?;
        let size = files.iter().map(|(entry, _)| entry.size()).sum();
        let meter = self.meter("write", dest, size);
        let latest = self.options.latest();
        match self.output.form {
            Form::Squashfs => {
                let codec = self.output.squashfs_codec();
                self.by_program(dest, |to| write_squashfs(&files, latest, codec, to, &meter))
            }
            Form::Ext4 => self.ext4(&files, dest, &meter),
            Form::Cpio => {
                let mut lost = Vec::new();
                write_file(dest, &meter, |out| {
                    lost = write_cpio(&files, latest, out)?;
                    Ok(())
                })?;
                self.warn(
                    dest,
                    &lost,
                    "has extended attributes, which cpio can't hold",
                );
                Ok(())
            }
            _ => write_file(dest, &meter, |out| write_erofs(&files, latest, out)),
        }
    }

    fn ext4(&self, files: &[OutputEntry], dest: &Path, meter: &Meter<'_>) -> Result<(), Error> {
        let work = self.solved.scratch_directory()?;
        let (latest, size) = (self.options.latest(), self.output.size);
        let mut left_out = Vec::new();
        let made = self.by_program(dest, |to| {
            left_out = write_ext4(files, latest, size, (to, &work), meter)?;
            Ok(())
        });
        _ = host::remove_dir_all(work);
        self.warn(dest, &left_out, "is a socket, and is left out");
        made
    }

    /// Has a program write a file, whose place it is given.
    fn by_program(
        &self,
        dest: &Path,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), Error> {
        if dest == Path::new("-") || is_special(dest) {
            let directory = self.solved.scratch_directory()?;
            let path = directory.join("image");
            let made = host::create(&path).and_then(|_| make(&path));
            let written = made.map_err(|source| fail(dest, source)).and_then(|()| {
                let meter = self.meter("copy", dest, host::metadata(&path).map_or(0, |m| m.len()));
                write_file(dest, &meter, |out| {
                    io::copy(&mut host::open(&path)?, out).map(drop)
                })
            });
            _ = host::remove_dir_all(directory);
            return written;
        }
        let written = host::replace(dest, |file| {
            use std::os::fd::AsRawFd as _;
            // Whatever is put at its name meanwhile: the program opens this very file.
            let opened = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            make(Path::new(&opened))
        });
        written.map_err(|source| fail(dest, source))
    }

    /// Warns of what isn't there as it is in the image.
    fn warn(&self, dest: &Path, paths: &[ImagePath], what: &str) {
        let Some(first) = paths.first() else { return };
        let others = match paths.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        self.events.event(Event::Warning {
            message: format!("{}: {first}{others} {what}", dest.display()),
        });
    }
}

impl super::Output {
    /// How the blocks of a squashfs are compressed.
    fn squashfs_codec(&self) -> SquashfsCodec {
        use kiln_image::layer::Codec;
        match self.codec {
            Some(Codec::Zstd(_)) => SquashfsCodec::Zstd,
            Some(Codec::Uncompressed) => SquashfsCodec::None,
            _ => SquashfsCodec::Gzip,
        }
    }
}

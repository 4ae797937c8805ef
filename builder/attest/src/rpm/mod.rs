//! rpm's packages and their files, by rpm's database in SQLite (rpm 4.16 and later). Older
//! databases (Berkeley DB, ndb) are not read.

mod header;
mod sqlite;

use kiln_graph::ImagePath;

/// Where rpm keeps what it has installed.
pub const DATABASES: &[&str] = &[
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
];

/// Where older ones keep it, in forms that are not read.
pub(crate) const OLD_DATABASES: &[&str] = &[
    "/var/lib/rpm/Packages",
    "/var/lib/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/Packages",
    "/usr/lib/sysimage/rpm/Packages.db",
];

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) name: String,
    pub(crate) epoch: Option<u32>,
    pub(crate) version: String,
    pub(crate) release: String,
    pub(crate) architecture: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) vendor: Option<String>,
    /// The source package's file name.
    pub(crate) source: Option<String>,
}

/// What a database says is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) packages: Vec<Installed>,
    /// How many packages can't be read.
    pub(crate) broken: usize,
    /// Whether all of the database could be read.
    pub(crate) is_whole: bool,
}

/// What is installed; nothing when the bytes are no database with a table of packages.
pub(crate) fn installed(database: &[u8]) -> Option<Database> {
    let rows = sqlite::table(database, "Packages")?;
    let all = rows.last.len();
    let packages: Vec<Installed> = rows
        .last
        .into_iter()
        .filter_map(|header| header::installed(&header?))
        .collect();
    Some(Database {
        broken: all - packages.len(),
        packages,
        is_whole: rows.is_whole,
    })
}

/// The files that packages list, with the packages' names. What can't be read is left out, and so are more
/// paths than a database of that size has: a few bytes can make long ones.
#[must_use]
pub fn owners(database: &[u8]) -> Vec<(ImagePath, String)> {
    let rows = sqlite::table(database, "Packages").unwrap_or_default();
    let mut owners = Vec::new();
    let mut left = database.len();
    for header in rows.last {
        let package = header.and_then(|header| header::Package::read(&header, &mut left));
        let Some(package) = package else { continue };
        let name = format!("rpm {}", package.name);
        let own = |path: Vec<u8>| (ImagePath::new(path), name.clone());
        owners.extend(package.files.into_iter().map(own));
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn run(directory: &Path, program: &str, args: &[&str]) {
        let output = Command::new(program)
            .args(args)
            .current_dir(directory)
            .output();
        let output =
            output.unwrap_or_else(|error| panic!("{program}: {error}; run scripts/setup-tests"));
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// A package with so many files that its header needs several pages.
    fn package(directory: &Path, name: &str, files: usize) {
        let spec = format!(
            "Name: {name}\nEpoch: 3\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n%description\nx\n\
             %install\nmkdir -p %{{buildroot}}/usr/share/{name}/deep\nfor n in $(seq {files}); do echo $n > %{{buildroot}}/usr/share/{name}/deep/file-number-$n; done\n\
             %files\n/usr/share/{name}\n"
        );
        std::fs::write(directory.join(format!("{name}.spec")), spec).unwrap();
        let top = format!("_topdir {}", directory.display());
        let spec = format!("{name}.spec");
        run(
            directory,
            "rpmbuild",
            &["--quiet", "-bb", "-D", &top, &spec],
        );
    }

    #[test]
    fn what_rpm_has_installed() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let names: Vec<String> = (0..12).map(|n| format!("pkg{n}")).collect();
        for (number, name) in names.iter().enumerate() {
            package(directory, name, 1 + number * 60);
        }
        let root = directory.join("root").display().to_string();
        let mut args = vec![
            "--root",
            &root,
            "--dbpath",
            "/var/lib/rpm",
            "--nodeps",
            "-i",
        ];
        let files: Vec<String> = names
            .iter()
            .map(|name| format!("RPMS/noarch/{name}-1-1.noarch.rpm"))
            .collect();
        args.extend(files.iter().map(String::as_str));
        run(directory, "rpm", &args);
        let bytes = std::fs::read(directory.join("root/var/lib/rpm/rpmdb.sqlite")).unwrap();
        let read = installed(&bytes).unwrap();
        let found = (read.packages.len(), read.broken, read.is_whole);
        assert_eq!(found, (names.len(), 0, true));
        // One that was cut off says so.
        let cut = installed(&bytes[..bytes.len() / 2]);
        assert!(cut.is_none_or(|read| !read.is_whole || read.broken > 0));
        let first = read
            .packages
            .iter()
            .find(|package| package.name == "pkg3")
            .unwrap();
        assert_eq!(
            (&*first.version, &*first.release, first.epoch),
            ("1", "1", Some(3))
        );
        assert_eq!(first.architecture.as_deref(), Some("noarch"));
        assert_eq!(first.source.as_deref(), Some("pkg3-1-1.src.rpm"));
        let owners = owners(&bytes);
        for (number, name) in names.iter().enumerate() {
            let own = owners
                .iter()
                .filter(|(_, owner)| *owner == format!("rpm {name}"));
            // The two directories are listed as well.
            assert_eq!(own.count(), 1 + number * 60 + 2, "{name}");
        }
        let file = (
            ImagePath::new("/usr/share/pkg7/deep/file-number-400"),
            "rpm pkg7".to_owned(),
        );
        assert!(owners.contains(&file));
    }

    #[test]
    fn what_is_no_database_has_no_owners() {
        assert_eq!(installed(b"SQLite format 3\0"), None);
        assert!(owners(b"").is_empty());
        assert!(owners(&[0; 4096]).is_empty());
        assert!(owners(b"SQLite format 3\0").is_empty());
    }
}

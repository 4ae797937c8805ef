//! Which files rpm's packages have, by rpm's database in SQLite (rpm 4.16 and later). Older
//! databases (Berkeley DB, ndb) count as none.

mod header;
mod sqlite;

use kiln_graph::ImagePath;

/// Where rpm keeps what it has installed.
pub(super) const DATABASES: &[&str] = &[
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
];

/// The files that packages list, with the packages' names. What can't be read is left out.
pub(crate) fn owners(database: &[u8]) -> Vec<(ImagePath, String)> {
    let headers = sqlite::blobs(database, "Packages");
    let mut owners = Vec::new();
    for header in headers {
        let Some(package) = header::Package::read(&header) else {
            continue;
        };
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

    fn run(folder: &Path, program: &str, args: &[&str]) {
        let output = Command::new(program)
            .args(args)
            .current_dir(folder)
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
    fn package(folder: &Path, name: &str, files: usize) {
        let spec = format!(
            "Name: {name}\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n%description\nx\n\
             %install\nmkdir -p %{{buildroot}}/usr/share/{name}/deep\nfor n in $(seq {files}); do echo $n > %{{buildroot}}/usr/share/{name}/deep/file-number-$n; done\n\
             %files\n/usr/share/{name}\n"
        );
        std::fs::write(folder.join(format!("{name}.spec")), spec).unwrap();
        let top = format!("_topdir {}", folder.display());
        let spec = format!("{name}.spec");
        run(folder, "rpmbuild", &["--quiet", "-bb", "-D", &top, &spec]);
    }

    #[test]
    fn what_rpm_has_installed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let names: Vec<String> = (0..12).map(|n| format!("pkg{n}")).collect();
        for (number, name) in names.iter().enumerate() {
            package(folder, name, 1 + number * 60);
        }
        let root = folder.join("root").display().to_string();
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
        run(folder, "rpm", &args);
        let bytes = std::fs::read(folder.join("root/var/lib/rpm/rpmdb.sqlite")).unwrap();
        let owners = owners(&bytes);
        for (number, name) in names.iter().enumerate() {
            let own = owners
                .iter()
                .filter(|(_, owner)| *owner == format!("rpm {name}"));
            // The two folders are listed as well.
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
        assert!(owners(b"").is_empty());
        assert!(owners(&[0; 4096]).is_empty());
        assert!(owners(b"SQLite format 3\0").is_empty());
    }
}

//! Files from elsewhere: web servers, git repositories, standard input.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

use kiln_tests::{BUSYBOX, GIT, Run, Script, Space, Web, read, run, shell};

/// A repository with a file, a directory, a submodule, a tag and a later commit, and its address.
fn repository(space: &Space, web: &Web) -> String {
    let script = format!(
        "mkdir srv/work srv/module; cd srv/module; {GIT} init -q; echo m > m; git add .; {GIT} commit -qm m; cd ..
         {GIT} clone -q --bare module module.git; git -C module.git update-server-info
         cd work; {GIT} init -q; mkdir sub; echo x > sub/x; echo old > y
         {GIT} -c protocol.file.allow=always submodule --quiet add ../module module; git config -f .gitmodules submodule.module.url {}
         git add .; {GIT} commit -qm one; git tag v1; echo new > y; {GIT} commit -qam two
         cd ..; {GIT} clone -q --bare work repo.git; git -C repo.git update-server-info",
        web.url("module.git")
    );
    shell(&space.path(""), &script);
    web.url("repo.git")
}

fn space() -> (Space, Web) {
    let space = Space::new();
    std::fs::create_dir(space.path("srv")).unwrap();
    let web = Web::serve(&space.path("srv"));
    (space, web)
}

fn with_stdin(space: &Space, args: &[&str], input: &[u8]) -> Run {
    let mut command = space.command(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Run::of(&child.wait_with_output().unwrap())
}

#[test]
fn add_from_a_web_server() {
    let (space, web) = space();
    shell(
        &space.path("srv"),
        "printf hello > f.txt; touch -d @1000 f.txt; for z in z j J; do tar c${z}f a.$z f.txt; done",
    );
    let sum = shell(&space.path("srv"), "sha256sum f.txt");
    let (sum, url) = (&sum[..64], |name: &str| web.url(name));
    let mut file = format!(
        "FROM scratch\nADD {0} /one/\nADD --checksum=sha256:{sum} --chmod=644 {0} /two\nADD {1} /packed\n",
        url("f.txt"),
        url("a.z"),
    );
    for z in ["z", "j", "J"] {
        file += &format!("ADD --unpack {} /{z}/\n", web.url(&format!("a.{z}")));
    }
    space.write("Dockerfile", &file);
    let out = space.build_files(&[]);
    let about = |name: &str| {
        let meta = std::fs::metadata(out.join(name)).unwrap();
        (meta.mode() & 0o777, meta.mtime())
    };
    assert_eq!(read(out.join("one/f.txt")), "hello");
    assert_eq!(about("one/f.txt"), (0o600, 1000));
    assert_eq!(about("one").0, 0o755);
    assert_eq!(about("two").0, 0o644);
    assert!(out.join("packed").is_file(), "archives stay as they are");
    for z in ["z", "j", "J"] {
        assert_eq!(read(out.join(z).join("f.txt")), "hello");
    }
    std::fs::write(space.path("srv/f.txt"), "changed").unwrap();
    let failed = space.build(&["--no-cache"]);
    assert_eq!(
        failed.status,
        Some(0),
        "the checksum's file is in the store"
    );
    assert_eq!(read(space.build_files(&[]).join("one/f.txt")), "changed");
    let bad = format!(
        "FROM scratch\nADD --checksum=sha256:{} {} /\n",
        "0".repeat(64),
        url("f.txt")
    );
    space.write("Dockerfile", bad);
    space
        .build(&[])
        .fails_with(&["digest mismatch", ">>> ADD", "Dockerfile:2"]);
    space.write(
        "Dockerfile",
        format!("FROM scratch\nADD {} /\n", url("none")),
    );
    space.build(&[]).fails_with(&["/none", "not"]);
}

/// A server whose answers say that they are gzip on the way, and give their files a name of its own.
const OPINIONATED: &str = "
import gzip
class Answer(Handler):
    def do_GET(self):
        body = gzip.compress(b'hello')
        if self.path == '/cut': body = body[:-4]
        self.answer(200, body, {
            # As old servers write dates (RFC 9110, section 5.6.7).
            'Last-Modified': 'Sunday, 06-Nov-94 08:49:37 GMT',
            'Content-Disposition': 'attachment; filename=\"..\"',
            'Content-Encoding': 'gzip',
        })
";

#[test]
fn a_download_is_named_by_its_address_and_decoded() {
    let server = Script::answering(OPINIONATED);
    let url = |path: &str| format!("http://127.0.0.1:{}/{path}", server.port());
    let space = Space::new();
    let names = ["a%20b", "c/", "d%2Fe", "", "f/..?g=h/i"];
    let adds = names.map(|name| format!("ADD {} /\n", url(name)));
    space.write("Dockerfile", format!("FROM scratch\n{}", adds.concat()));
    let out = space.build_files(&[]);
    for name in ["a b", "c", "e", "__unnamed__"] {
        assert_eq!(read(out.join(name)), "hello", "{name}");
    }
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 4);
    let mtime = std::fs::metadata(out.join("c")).unwrap().mtime();
    assert_eq!(mtime, 784_111_777);
    space.write(
        "Dockerfile",
        format!("FROM scratch\nADD {} /\n", url("cut")),
    );
    space.build(&[]).fails_with(&["/cut"]);
}

/// A server of an archive with and without its time, as servers that write dates themselves say it.
const DATED: &str = "
import io, tarfile
def archive():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as tar:
        for name, mtime in (('old', 1000000000), ('new', 1700000402)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 1, mtime
            tar.addfile(info, io.BytesIO(b'x'))
    return out.getvalue()
class Answer(Handler):
    def do_GET(self):
        dated = {'Last-Modified': 'Tuesday, 14-Nov-23 22:13:21 UTC'}
        self.answer(200, archive(), dated if self.path == '/dated.tar' else {})
";

#[test]
fn the_time_of_a_build_is_that_of_a_stage_or_a_named_context() {
    let server = Script::answering(DATED);
    let url = |path: &str| format!("http://127.0.0.1:{}/{path}", server.port());
    let space = Space::new();
    let epoch = |stage: &str, args: &[&str]| {
        let file = format!(
            "ARG SOURCE_DATE_EPOCH=src\n{stage}\nFROM {BUSYBOX}\nARG SOURCE_DATE_EPOCH\nRUN echo -n \"$SOURCE_DATE_EPOCH\" > /epoch\n"
        );
        space.write("Dockerfile", file);
        read(space.build_files(args).join("epoch"))
    };
    for (path, time) in [("dated.tar", "1700000001"), ("plain.tar", "1700000402")] {
        let stage = format!("FROM scratch AS src\nADD {} /", url(path));
        assert_eq!(epoch(&stage, &[]), time, "{path}");
        let context = format!("src={}", url(path));
        assert_eq!(epoch("", &["--build-context", &context]), time, "{path}");
        let given = ["--build-arg", "SOURCE_DATE_EPOCH=7"];
        assert_eq!(epoch(&stage, &given), "7", "what the user says counts");
    }
    std::fs::create_dir(space.path("plain")).unwrap();
    let plain = format!("src={}", space.path("plain").display());
    assert_eq!(
        epoch("", &["--build-context", &plain]),
        "",
        "directories have no time"
    );
    for (stage, says) in [
        (
            "FROM scratch AS src\nCOPY Dockerfile /",
            "source-only requirements",
        ),
        ("", "invalid SOURCE_DATE_EPOCH: src"),
    ] {
        let file = format!("ARG SOURCE_DATE_EPOCH=src\n{stage}\nFROM scratch\nCOPY . /\n");
        space.write("Dockerfile", file);
        space.build(&[]).fails_with(&[says]);
    }
}

#[test]
fn the_build_file_of_a_fetched_context_is_one_of_its_files() {
    let (space, web) = space();
    std::fs::write(space.path("host"), "hostsecret").unwrap();
    shell(
        &space.path("srv"),
        "mkdir c; echo 'FROM scratch' > c/Dockerfile; echo 'COPY Dockerfile /' >> c/Dockerfile; tar cf c.tar -C c .",
    );
    let url = web.url("c.tar");
    let host = space.path("host").display().to_string();
    let up = format!("../../../../../../../..{host}");
    for file in [&host, &up] {
        let failed = space.kiln(&["build", &url, "-f", file]);
        assert_eq!(failed.status, Some(1), "{}", failed.stderr);
        assert!(!failed.stderr.contains("hostsecret"), "{}", failed.stderr);
    }
    _ = space.kiln(&["build", &url, "-f", "/Dockerfile"]).ok();
}

#[test]
fn add_from_a_git_repository() {
    let (space, web) = space();
    let repo = repository(&space, &web);
    let file = format!(
        "FROM scratch\nADD {repo} /head\nADD {repo}#v1:sub /sub\nADD --keep-git-dir {repo}?tag=v1 /tag\n"
    );
    space.write("Dockerfile", &file);
    let out = space.build_files(&[]);
    assert_eq!(read(out.join("head/y")), "new\n");
    assert_eq!(read(out.join("head/module/m")), "m\n");
    assert!(!out.join("head/.git").exists() && out.join("tag/.git").exists());
    assert_eq!(read(out.join("sub/x")), "x\n");
    assert_eq!(read(out.join("tag/y")), "old\n");
    space.write(
        "Dockerfile",
        format!("FROM scratch\nADD {repo}#nothing /\n"),
    );
    space.build(&[]).fails_with(&["nothing", "Dockerfile:2"]);
}

#[test]
fn contexts_that_are_not_directories() {
    let (space, web) = space();
    let repo = repository(&space, &web);
    space
        .write("Dockerfile", "FROM scratch\nCOPY . /\n")
        .write(".dockerignore", "no\n")
        .write("no", "")
        .write("yes", "y");
    shell(&space.path("context"), "tar czf ../srv/c.tgz .");
    let out = space.path("out");
    let output = format!("type=local,dest={}", out.display());
    let names = |run: Run| {
        _ = run.ok();
        let mut names: Vec<String> = std::fs::read_dir(&out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        std::fs::remove_dir_all(&out).unwrap();
        names.join(" ")
    };
    let url = web.url("c.tgz");
    let build = |context: &str| space.kiln(&["build", context, "-o", &output]);
    assert_eq!(names(build(&url)), ".dockerignore Dockerfile yes");
    let archive = std::fs::read(space.path("srv/c.tgz")).unwrap();
    let piped = with_stdin(&space, &["build", "-", "-o", &output], &archive);
    assert_eq!(names(piped), ".dockerignore Dockerfile yes");
    let text = b"FROM scratch\nCOPY <<E /made\nx\nE\n";
    assert_eq!(
        names(with_stdin(&space, &["build", "-", "-o", &output], text)),
        "made"
    );
    let args = ["build", "context", "-f", "-", "-o", &output];
    let text = b"FROM scratch\nCOPY yes /from-stdin\n";
    assert_eq!(names(with_stdin(&space, &args, text)), "from-stdin");
    space.write("Dockerfile", "FROM scratch\nCOPY --from=src sub /\n");
    let named = format!("src={repo}");
    assert_eq!(
        names(space.build(&["--build-context", &named, "-o", &output])),
        "x"
    );
    shell(
        &space.path("srv/work"),
        &format!(
            "printf 'FROM scratch\nCOPY sub /\n' > Dockerfile; git add .; {GIT} commit -qm d; git push -q ../repo.git HEAD:main; git -C ../repo.git update-server-info"
        ),
    );
    assert_eq!(names(build(&repo)), "x");
}

/// When an image was made, as its configuration says.
fn created(space: &Space, args: &[&str]) -> String {
    let archive = space.path("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    _ = space.kiln(&[&["build", "-o", &output], args].concat()).ok();
    let image = format!("oci-archive:{}", archive.display());
    let config = run("skopeo", &["inspect", "--config", &image]).ok().stdout;
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["created"].as_str().unwrap().to_owned()
}

#[test]
fn the_date_of_the_context() {
    let (space, web) = space();
    let dated = "GIT_AUTHOR_DATE='2020-02-02T02:02:02Z' GIT_COMMITTER_DATE='2020-02-02T02:02:02Z'";
    let script = format!(
        "mkdir srv/work; cd srv/work; printf 'FROM scratch\\nCOPY . /\\n' > Dockerfile; {GIT} init -q; git add .
         {dated} {GIT} commit -qm one; cd ..; {GIT} clone -q --bare work repo.git; git -C repo.git update-server-info
         touch -d 2019-09-09T09:09:09Z work/Dockerfile; tar cf c.tar -C work Dockerfile; touch -d 2018-08-08T08:08:08Z c.tar"
    );
    shell(&space.path(""), &script);
    let of_context = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
    let created_of = |context: &str| created(&space, &[&of_context[..], &[context]].concat());
    assert_eq!(created_of(&web.url("repo.git")), "2020-02-02T02:02:02Z");
    assert_eq!(created_of(&web.url("c.tar")), "2018-08-08T08:08:08Z");
    let text = "ARG SOURCE_DATE_EPOCH=1600000000\nFROM scratch\nCOPY f /\n";
    space.write("Dockerfile", text).write("f", "f");
    assert_eq!(created(&space, &["context"]), "2020-09-13T12:26:40Z");
    let directory = created_of("context");
    assert!(
        directory.as_str() > "2026",
        "a directory has no date: {directory}"
    );
    let archive = std::fs::read(space.path("srv/c.tar")).unwrap();
    let output = format!("type=oci,dest={}", space.path("image.tar").display());
    let args = [&["build", "-", "-o", &output], &of_context[..]].concat();
    _ = with_stdin(&space, &args, &archive).ok();
    let image = format!("oci-archive:{}", space.path("image.tar").display());
    let config = run("skopeo", &["inspect", "--config", &image]).ok().stdout;
    assert!(
        config.contains("\"created\": \"2019-09-09T09:09:09Z\""),
        "{config}"
    );
}

#[test]
fn a_step_library_from_git() {
    let (space, web) = space();
    let library = "version = 1\n[params.greeting]\ndefault = 'hello'\n[steps.greet]\nfrom = 'scratch'\ncopy = [{ text = '{{ params.greeting }}', to = '/greeting' }]\n";
    std::fs::write(space.path("library.toml"), library).unwrap();
    let script = format!(
        "mkdir srv/work; cd srv/work; {GIT} init -q; cp ../../library.toml .; {GIT} add .; {GIT} commit -qm one
         cd ..; {GIT} clone -q --bare work lib.git; git -C lib.git update-server-info; git -C work rev-parse HEAD"
    );
    let commit = shell(&space.path(""), &script);
    let file = format!(
        "version = 1\ninclude = [{{ git = '{}', commit = '{}', path = 'library.toml' }}]\n[images.i]\nfrom = 'greet'\n",
        web.url("lib.git"),
        commit.trim()
    );
    space.write("kiln.toml", &file);
    let greeting = |args: &[&str]| read(space.build_files(args).join("greeting"));
    assert_eq!(greeting(&[]), "hello");
    drop(web);
    assert_eq!(
        greeting(&["--build-arg", "greeting=hi"]),
        "hi",
        "it isn't fetched again"
    );
    space.write("kiln.toml", file.replace("library.toml", "none.toml"));
    let run = space.build(&[]);
    run.fails_with(&["cannot include", "none.toml", "No such file", "kiln.toml:2"]);
}

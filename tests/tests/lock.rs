//! `kiln lock`: what mutable names stand for stays what it was.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, GIT, Registry, Run, Space, Web, run, shell};

/// A registry, a web server and a git repository whose contents can be moved on.
struct World {
    space: Space,
    registry: Option<Registry>,
    web: Option<Web>,
}

impl World {
    fn new() -> Self {
        let space = Space::new();
        std::fs::create_dir_all(space.path("srv/work")).unwrap();
        let registry = Registry::start(&space.path("registry"), false);
        let web = Web::serve(&space.path("srv"));
        let init = format!(
            "cd work; {GIT} init -q; echo 1 > state; git add .; {GIT} commit -qm 1
             cd ..; {GIT} clone -q --bare work repo.git; git -C repo.git update-server-info"
        );
        shell(&space.path("srv"), &init);
        let world = Self {
            space,
            registry: Some(registry),
            web: Some(web),
        };
        world.publish(1);
        world
    }

    fn base(&self) -> String {
        self.registry.as_ref().unwrap().name("base:latest")
    }

    fn url(&self, path: &str) -> String {
        self.web.as_ref().unwrap().url(path)
    }

    /// Puts something else under all names.
    fn publish(&self, state: u32) {
        _ = self.space.image(&format!("put('state', b'{state}\\n')"));
        let layout = self.space.path("published");
        _ = std::fs::remove_dir_all(&layout);
        std::fs::rename(self.space.path("evil"), &layout).unwrap();
        let from = format!("oci:{}:latest", layout.display());
        let to = format!("docker://{}", self.base());
        _ = run(
            "skopeo",
            &["copy", "-q", "--dest-tls-verify=false", &from, &to],
        );
        let change = format!(
            "printf '{state}\\n' > file; cd work; echo {state} > state
             {GIT} diff --quiet || {GIT} commit -qam {state}
             {GIT} push -q ../repo.git main; git -C ../repo.git update-server-info"
        );
        shell(&self.space.path("srv"), &change);
    }

    /// What a build took from the image, the file and the repository.
    fn states(&self, args: &[&str]) -> Vec<String> {
        let out = self.space.build_files(args);
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        let states = ["state", "file", "git/state"].map(read);
        states.map(|text| text.trim().to_owned()).to_vec()
    }

    fn lock(&self, args: &[&str]) -> Run {
        self.space.kiln(&[&["lock", "context"], args].concat())
    }
}

fn all_states(world: &World) {
    assert_eq!(world.states(&[]), ["1", "1", "1"]);
    let locked = world.lock(&[]).ok().stdout;
    assert_eq!(locked.matches("new: ").count(), 3, "{locked}");
    let check = world.lock(&["--check"]).ok();
    assert!(
        check.stderr.contains("has all that can change"),
        "{}",
        check.stderr
    );
    world.publish(2);
    assert_eq!(world.states(&["--locked"]), ["1", "1", "1"], "locked");
    assert_eq!(world.states(&["--no-lock"]), ["2", "2", "2"]);
    let same = world.lock(&[]).ok();
    assert!(same.stderr.contains("stays as it is"), "{}", same.stderr);
    let base = world.base();
    let updated = world.lock(&["--update", &base]).ok().stdout;
    assert!(
        updated.contains(&format!("{base}  sha256:")) && updated.contains(" -> "),
        "{updated}"
    );
    assert_eq!(updated.lines().count(), 1, "{updated}");
    assert_eq!(world.states(&[]), ["2", "1", "1"]);
    let updated = world.lock(&["--update"]).ok().stdout;
    assert_eq!(updated.lines().count(), 2, "{updated}");
    assert_eq!(world.states(&[]), ["2", "2", "2"]);
}

/// With everything switched off, a locked build does even what wasn't done before.
fn works_offline(mut world: World, name: &str, changed: &str) {
    world.registry = None;
    world.web = None;
    world.space.write(name, changed);
    let offline = world.states(&["--locked"]);
    assert_eq!(offline, ["2", "2", "2"]);
    let run = world.space.build(&["--no-lock"]);
    run.fails_with(&["cannot reach"]);
}

#[test]
fn a_dockerfile_is_locked() {
    let world = World::new();
    let file = format!(
        "FROM {} AS base\nADD {} /file\nADD {}#main /git\nFROM base\n",
        world.base(),
        world.url("file"),
        world.url("repo.git")
    );
    world.space.write("Dockerfile", &file);
    world
        .space
        .build(&["--locked"])
        .fails_with(&["isn't in the lock", "Dockerfile:1"]);
    all_states(&world);
    let more = format!("{file}RUN echo more > /more\n");
    works_offline(world, "Dockerfile", &more);
}

#[test]
fn a_kiln_toml_is_locked_with_what_its_values_need() {
    let world = World::new();
    let file = format!(
        "version = 1\n[sources.repo]\ngit = \"{}\"\nref = \"main\"\n[sources.file]\nhttp = \"{}\"\n\
         [steps.state]\nfrom = \"{1}\"\nbinds = [{{ from = \"repo\", target = \"/src\" }}]\nrun = \"cat /src/state\"\n\
         [steps.a]\nfrom = \"{1}\"\ncopy = [{{ from = \"file\", to = \"/\" }}, {{ text = \"{{{{ steps.state.stdout }}}}\", to = \"/git/state\" }}]\n\
         [images.i]\nfrom = \"a\"\n[images.other]\nfrom = \"a\"\n",
        world.url("repo.git"),
        world.url("file"),
    )
    .replace(&format!("from = \"{}\"", world.url("file")), &format!("from = \"{}\"", world.base()));
    world.space.write("kiln.toml", &file);
    let target = ["--target", "i"];
    let states = |args: &[&str]| world.states(&[&target[..], args].concat());
    assert_eq!(states(&[]), ["1", "1", "1"]);
    let locked = world.lock(&[]).ok().stdout;
    assert_eq!(locked.matches("new: ").count(), 3, "{locked}");
    world.publish(2);
    assert_eq!(states(&["--locked"]), ["1", "1", "1"]);
    assert_eq!(states(&["--no-lock"]), ["2", "2", "2"]);
}

#[test]
fn mistakes_with_locks() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n"));
    let lock = |args: &[&str]| space.kiln(&[&["lock", "context"], args].concat());
    lock(&["--check"]).fails_with(&["isn't in the lock", "kiln lock"]);
    assert!(!space.path("context/kiln.lock").exists());
    _ = lock(&[]).ok();
    let slip = lock(&["--update", "debian"]);
    assert!(
        slip.status == Some(2) && slip.stderr.contains("no such entry"),
        "{}",
        slip.stderr
    );
    space.write("kiln.lock", "version = 3\n");
    let newer = space.build(&[]);
    assert!(
        newer.status == Some(2) && newer.stderr.contains("newer kiln"),
        "{}",
        newer.stderr
    );
}

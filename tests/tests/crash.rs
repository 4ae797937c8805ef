//! Builds that end at any instant: killed, or with the power cut.
//!
//! `KILN_CRASH_ROUNDS` and `KILN_CRASH_SEED` make the runs longer and other ones; the same seed gives
//! the same commands and instants.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kiln_tests::{BUSYBOX, Run, Space, kiln_binary, run};

/// A linear congruential generator (Knuth's constants).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        const FACTOR: u64 = 6_364_136_223_846_793_005;
        const TERM: u64 = 1_442_695_040_888_963_407;
        self.0 = self.0.wrapping_mul(FACTOR).wrapping_add(TERM);
        (self.0 >> 33) % sides
    }
}

fn setting(name: &str, usual: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(usual, |text| text.parse().unwrap())
}

fn dice() -> Dice {
    Dice(setting("KILN_CRASH_SEED", 42))
}

fn context(space: &Space) {
    let steps: String = (0..6)
        .map(|n| format!("RUN head -c 300000 /dev/zero > /f{n}; echo {n} >> /list\n"))
        .collect();
    let text =
        format!("FROM {BUSYBOX}\nARG ROUND\nCOPY . /context\n{steps}RUN echo $ROUND > /round\n");
    space.write("Dockerfile", text);
    for number in 0..40 {
        space.write(&format!("files/{number}"), number.to_string());
    }
}

/// The image that a whole build gives is the right one.
fn check_image(out: &Path, round: u64) {
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(read("list"), "0\n1\n2\n3\n4\n5\n", "{round}");
    assert_eq!(read("round"), format!("{round}\n"));
    assert_eq!(read("context/files/39"), "39");
    for n in 0..6 {
        let bytes = std::fs::read(out.join(format!("f{n}"))).unwrap();
        assert!(
            bytes.len() == 300_000 && bytes.iter().all(|b| *b == 0),
            "{round}"
        );
    }
}

fn no_damage(round: u64, checked: &Run) {
    assert_eq!(
        checked.status,
        Some(0),
        "{round}: {}{}",
        checked.stdout,
        checked.stderr
    );
}

#[test]
fn killed_at_any_instant() {
    let space = Space::new();
    context(&space);
    let mut dice = dice();
    let archive = format!("type=oci,dest={}", space.path("out.tar").display());
    let cache = format!("type=local,dest={}", space.path("cache").display());
    let from = format!("type=local,src={}", space.path("cache").display());
    let rounds = setting("KILN_CRASH_ROUNDS", 40);
    for round in 0..rounds {
        let arg = format!("ROUND={round}");
        let build = ["build", "context", "--build-arg", arg.as_str()];
        let more: &[&str] = match dice.throw(8) {
            0 => &["--no-cache"],
            1 => &["-o", &archive],
            2 => &["--cache-to", &cache],
            3 => &["--cache-from", &from, "--no-cache-filter", "stage-0"],
            4 => {
                let file = format!("files/{}", dice.throw(20));
                space.write(&file, round.to_string());
                &["-t", "killed"]
            }
            5 => &["prune"],
            _ => &["-t", "killed"],
        };
        let args = match more {
            ["prune"] => vec!["prune", "--all", "--force"],
            more => [&build[..], more].concat(),
        };
        let mut child = space.command(&args).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(dice.throw(150)));
        child.kill().unwrap();
        _ = child.wait().unwrap();
        no_damage(round, &space.kiln(&["fsck"]));
        if space.path("out.tar").exists() {
            let out = space.path("out.tar").display().to_string();
            _ = run("tar", &["-tf", &out]);
        }
        if round % 10 == 9 || round + 1 == rounds {
            check_image(&space.build_files(&["--build-arg", &arg]), round);
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let store = space.path("store").display().to_string();
    assert!(!mounts.contains(&store), "{mounts}");
}

/// A machine of which only the disk matters: an ext4 file system in a file, and an identity that
/// changes when it is started.
struct Machine {
    disk: PathBuf,
    store: PathBuf,
    boot: PathBuf,
}

/// `EXT4_IOC_SHUTDOWN` with `NOLOGFLUSH`: nothing more reaches the disk, not even the journal's
/// running transaction.
const CUT: &str = "import fcntl, os, struct, sys\n\
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

impl Machine {
    fn new(space: &Space) -> Self {
        let machine = Self {
            disk: space.path("disk"),
            store: space.path("store"),
            boot: space.path("boot_id"),
        };
        std::fs::create_dir(&machine.store).unwrap();
        let disk = std::fs::File::create(&machine.disk).unwrap();
        disk.set_len(400 << 20).unwrap();
        _ = run("mkfs.ext4", &["-q", "-F", machine.disk.to_str().unwrap()]);
        machine
    }

    fn start(&self, boot: u64) {
        std::fs::write(&self.boot, format!("00000000-0000-0000-0000-{boot:012}\n")).unwrap();
        let (disk, store) = (self.disk.to_str().unwrap(), self.store.to_str().unwrap());
        _ = run("mount", &["-o", "loop,commit=1", disk, store]);
    }

    /// `kiln` as the machine's identity has it see it.
    fn command(&self, space: &Space, script: &str) -> Command {
        let script = format!("mount --bind \"$BOOT\" /proc/sys/kernel/random/boot_id && {script}");
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                &script,
            ])
            .env("KILN", kiln_binary())
            .env("KILN_ROOT", &self.store)
            .env("BOOT", &self.boot)
            .current_dir(space.path(""));
        command
    }

    fn run(&self, space: &Space, script: &str) -> Run {
        Run::of(&self.command(space, script).output().unwrap())
    }

    fn cut_the_power(&self, mut running: Child) {
        _ = run("python3", &["-c", CUT, self.store.to_str().unwrap()]);
        running.kill().unwrap();
        _ = running.wait().unwrap();
        self.unmount();
    }

    fn unmount(&self) {
        for _ in 0..100 {
            let done = Command::new("umount")
                .arg(&self.store)
                .stderr(Stdio::null())
                .status();
            if done.unwrap().success() {
                return self.wait_for_the_disk();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} can't be unmounted", self.store.display());
    }

    /// Processes that are being ended still hold the file system in mount namespaces of their own:
    /// mounted now, it would be the one that is cut off.
    fn wait_for_the_disk(&self) {
        for _ in 0..200 {
            let loops = run("losetup", &["-j", self.disk.to_str().unwrap()]);
            if loops.stdout.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} is still in use", self.disk.display());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        _ = Command::new("umount")
            .arg("-l")
            .arg(&self.store)
            .stderr(Stdio::null())
            .status();
    }
}

#[test]
fn the_power_fails_at_any_instant() {
    let space = Space::new();
    context(&space);
    let machine = Machine::new(&space);
    let mut dice = dice();
    let rounds = setting("KILN_CRASH_ROUNDS", 40) / 8;
    for round in 0..rounds {
        machine.start(round);
        no_damage(round, &machine.run(&space, "exec $KILN fsck"));
        let out = space.path(format!("out{round}"));
        let script = format!(
            "exec $KILN build context --build-arg ROUND={round} -t whole -o {}",
            out.display()
        );
        _ = machine.run(&space, &script).ok();
        check_image(&out, round);
        no_damage(round, &machine.run(&space, "exec $KILN fsck"));
        let many = format!(
            "for n in $(seq 1000); do $KILN build context --no-cache-filter stage-0 --build-arg ROUND={round}.$n -t many || exit; done"
        );
        let mut running = machine.command(&space, &many);
        let running = running
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(200 + dice.throw(2500)));
        machine.cut_the_power(running);
    }
}

#[test]
fn an_orderly_restart_loses_nothing() {
    let space = Space::new();
    context(&space);
    let machine = Machine::new(&space);
    let build = "exec $KILN build context --build-arg ROUND=1 -t kept --progress plain";
    machine.start(1);
    _ = machine.run(&space, build).ok();
    machine.unmount();
    machine.start(2);
    let again = machine.run(&space, build).ok();
    assert!(
        again
            .stderr
            .contains("from before this machine was started"),
        "{}",
        again.stderr
    );
    let cached = again.stderr.matches(" CACHED").count();
    assert_eq!(cached, 8, "{}", again.stderr);
    assert!(
        !machine
            .run(&space, build)
            .ok()
            .stderr
            .contains("from before")
    );
}

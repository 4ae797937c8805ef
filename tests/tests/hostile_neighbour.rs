//! What a step tries against another step, and a process of the machine against a step: descriptors
//! that are passed from one to the other. Each test is named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use kiln_tests::{BUSYBOX, Space, compile};

/// `pass give SOCKET PATH FLAGS` gives a descriptor to `pass take SOCKET PROGRAM…`, which executes
/// the program with it as number 9. A socket's name that begins with `@` is abstract.
const PASS: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static socklen_t name(struct sockaddr_un *to, const char *text) {
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    strcpy(to->sun_path, text);
    if (*text == '@') to->sun_path[0] = 0;
    return offsetof(struct sockaddr_un, sun_path) + strlen(text) + (*text != '@');
}

int main(int count, char **words) {
    struct sockaddr_un at;
    socklen_t length = name(&at, words[2]);
    char byte = 'x', space[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    if (!strcmp(words[1], "give")) {
        int file = *words[3] == '-' ? 1 : open(words[3], atoi(words[4]));
        if (file < 0) { perror("open"); return 1; }
        for (int tries = 0; tries < 600; tries++) {
            int line = socket(AF_UNIX, SOCK_STREAM, 0);
            if (connect(line, (void *)&at, length)) {
                if (errno == EPERM) { perror("connect"); return 3; }
                close(line); usleep(20000); continue;
            }
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET; header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int)); memcpy(CMSG_DATA(header), &file, sizeof file);
            if (sendmsg(line, &message, 0) < 0) { perror("sendmsg"); return 1; }
            return read(line, &byte, 1) != 1;
        }
        return 1;
    }
    int socket_ = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(socket_, (void *)&at, length) || listen(socket_, 5)) { perror("listen"); return 1; }
    int line = accept(socket_, 0, 0), file;
    if (recvmsg(line, &message, 0) < 0) { perror("recvmsg"); return 1; }
    memcpy(&file, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof file);
    dup2(file, 9); write(line, "x", 1); close(line); close(socket_); if (file != 9) close(file);
    execvp(words[3], words + 3);
    return 1;
}
"#;

/// Tries to change what lies at descriptor 9; each success is a line of `/done`.
const CHANGES: &str = "cd /proc/self/fd/9 && for try in 'echo no > x' 'echo no > new' 'mkdir d2' 'ln -s /etc link' 'ln x hard' 'mv x y' 'mv d e' 'rm x' 'chmod 7 x' 'chmod 7 d' 'chown 5 x' 'touch -d 2001-01-01 x' 'mknod p p' 'truncate -s 0 x'; do (eval $try) 2>/dev/null && echo $try; done > /done; ls -la > /seen; true";

fn space() -> Space {
    let space = Space::new();
    compile(PASS, &space.path("context/pass"));
    space
}

/// Builds stages that begin with one that has `/pass`, and gives what came out.
fn build(space: &Space, network: &str, stages: &str) -> std::path::PathBuf {
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX} AS base\nCOPY pass /\n{stages}\n"),
    );
    space.build_files(&["--network", network])
}

fn read(out: &Path, name: &str) -> String {
    std::fs::read_to_string(out.join(name)).unwrap()
}

/// Whether this kernel confines steps; without it `kiln doctor` and SECURITY.md say what is open.
fn is_confined(space: &Space) -> bool {
    space
        .kiln(&["doctor"])
        .ok()
        .stdout
        .contains("yes  landlock")
}

#[test]
fn finished_steps_write_no_more() {
    let space = space();
    // A's root, the directory of a bind mount that may be written, and A's mount of the volume.
    for (path, made, mount) in [
        ("/", "/", ""),
        (
            "/bind",
            "/bind",
            "--mount=type=bind,from=base,target=/bind,rw",
        ),
        ("/v", "/v", "--mount=type=cache,id=two,target=/v"),
    ] {
        let stages = format!(
            "FROM base AS b\nRUN --mount=type=cache,id=s,target=/c rm -f /c/s; /pass take /c/s sh -c \"sleep 2; {CHANGES}\"\nFROM base AS a\nRUN --mount=type=cache,id=s,target=/c {mount} echo yes > {made}/x; mkdir -p {made}/d; /pass give /c/s {path} 0\nRUN --mount=type=cache,id=two,target=/v cat {made}/x /x 2>/dev/null > /after; true\nFROM base\nCOPY --from=b /done /seen /\nCOPY --from=a /after /\n"
        );
        let out = build(&space, "none", &stages.replace('$', "\\$"));
        assert_eq!(read(&out, "done"), "", "{path}");
        if path != "/bind" {
            assert!(read(&out, "after").starts_with("yes\n"), "{path}");
        }
        _ = space.kiln(&["prune", "--all", "--force"]).ok();
    }
}

/// A process that goes on writing would change what the store takes for unchanging.
#[test]
fn files_that_are_still_written_fail_their_step() {
    let space = space();
    for (path, mount) in [("/x", ""), ("/v/x", "--mount=type=cache,id=two,target=/v")] {
        space.write(
            "Dockerfile",
            format!(
                "FROM {BUSYBOX} AS base\nCOPY pass /\nFROM base AS b\nRUN --mount=type=cache,id=s,target=/c rm -f /c/s; /pass take /c/s sleep 6\nFROM base AS a\nRUN --mount=type=cache,id=s,target=/c {mount} echo yes > {path}; /pass give /c/s {path} 2\nFROM base\nCOPY --from=b /pass /1\nCOPY --from=a /pass /2\n"
            ),
        );
        space.build(&["--network", "none"]).fails_with(&[
            "open for writing",
            "Dockerfile:6",
            "its result can't be kept",
        ]);
    }
}

#[test]
fn descriptors_lead_nowhere() {
    let space = space();
    if !is_confined(&space) {
        return;
    }
    // While A still runs, B can change nothing below A's root either.
    let stages = format!(
        "FROM base AS b\nRUN --mount=type=cache,id=s,target=/c rm -f /c/s; /pass take /c/s sh -c \"{}\"; touch /c/over\nFROM base AS a\nRUN --mount=type=cache,id=s,target=/c rm -f /c/over; echo yes > /x; mkdir /d; /pass give /c/s / 0; while ! test -e /c/over; do sleep 0.1; done\nFROM base\nCOPY --from=b /done /seen /\nCOPY --from=a /x /after\n",
        "cd /proc/self/fd/9 && for try in 'cat x' 'echo no > x' 'echo no > new' 'mkdir d2' 'ln -s /etc link' 'ln x hard' 'mv x y' 'rm x' 'mknod p p' 'truncate -s 0 x' 'cat ../../etc/passwd'; do (eval \\$try) 2>/dev/null >&2 && echo \\$try; done > /done; touch /seen"
    );
    let out = build(&space, "none", &stages);
    assert_eq!(read(&out, "done"), "");
    assert_eq!(read(&out, "after"), "yes\n");
}

#[test]
fn abstract_sockets_are_each_steps_own() {
    let space = space();
    if !is_confined(&space) {
        return;
    }
    let name = format!("kiln-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let stages = format!(
        "RUN /pass give @{name} / 0; echo $? > /host\nRUN /pass take @{name}2 sh -c 'echo own > /own' & sleep 0.2; /pass give @{name}2 / 0; wait\nFROM base AS b\nRUN timeout 3 /pass take @{name}3 sh -c 'echo got > /got'; touch /got\nFROM base AS a\nRUN sleep 1; /pass give @{name}3 / 0; echo $? > /other\nFROM base\nCOPY --from=a /other /\nCOPY --from=b /got /\nCOPY --from=own /host /own /\n"
    );
    let stages = format!("FROM base AS own\n{stages}");
    let out = build(&space, "host", &stages);
    assert_eq!(read(&out, "host"), "3\n", "the machine's");
    assert_eq!(read(&out, "other"), "3\n", "another step's");
    assert_eq!(read(&out, "own"), "own\n");
    assert_eq!(read(&out, "got"), "");
}

/// Trees are named by their content: what a step changes later would be what another build's steps
/// execute.
#[test]
fn other_builds_execute_their_own_programs() {
    let space = space();
    let make = "mkdir /app; echo 'echo the own program' > /app/run";
    let stages = format!(
        "FROM base AS b\nRUN --mount=type=cache,id=s,target=/c rm -f /c/s; /pass take /c/s sh -c \"sleep 2; cd /proc/self/fd/9 && echo 'echo the attackers' > app/run\"; true\nFROM base AS a\nRUN --mount=type=cache,id=s,target=/c {make}; /pass give /c/s / 0\nFROM base\nCOPY --from=a /app /v\nCOPY --from=b /pass /2\n"
    );
    _ = build(&space, "none", &stages);
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN {make}\nRUN sh /app/run > /ran\n"),
    );
    assert_eq!(read(&space.build_files(&[]), "ran"), "the own program\n");
}

/// A step that gave its output away ends nevertheless.
#[test]
fn nobody_waits_for_output_that_was_passed_on() {
    let space = space();
    let stages = "FROM base AS b\nRUN --mount=type=cache,id=s,target=/c rm -f /c/s; /pass take /c/s sleep 5; date +%s > /end\nFROM base AS a\nRUN --mount=type=cache,id=s,target=/c /pass give /c/s - 0\nRUN date +%s > /next\nFROM base\nCOPY --from=b /end /\nCOPY --from=a /next /\n";
    let out = build(&space, "none", stages);
    let time = |name| read(&out, name).trim().parse::<u64>().unwrap();
    assert!(
        time("next") + 2 < time("end"),
        "{} {}",
        time("next"),
        time("end")
    );
}

//! A web server on loopback that serves a folder, for as long as it is held.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running server.
#[derive(Debug)]
pub struct Web {
    child: Child,
    port: u16,
}

impl Web {
    /// Serves a folder on a free port (Python's server).
    #[must_use]
    pub fn serve(folder: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 can be started");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        out.read_line(&mut line).expect("the server says its port");
        let words: Vec<&str> = line.split(' ').collect();
        let at = words.iter().position(|word| *word == "port");
        let port = words[at.expect("the server says its port") + 1];
        Self {
            child,
            port: port.parse().expect("a port is a number"),
        }
    }

    /// The address of a file.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

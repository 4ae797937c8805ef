//! Small servers on loopback, written in Python or for Node.js, for as long as they are held.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running script that has said its port: a line with the word `port`, a blank and a number.
#[derive(Debug)]
pub struct Script {
    child: Child,
    port: u16,
}

/// What scripts that answer requests begin with: a class to derive `Answer` from.
const HANDLER: &str = "
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def answer(self, status, body=b'', headers={}):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
";
/// What they end with.
const SERVE: &str = "
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answer)
print('port', server.server_port)
server.serve_forever()
";

impl Script {
    /// Runs a script.
    #[must_use]
    pub fn python(text: &str) -> Self {
        Self::start(Command::new("python3").args(["-u", "-c", text]))
    }

    /// Serves by the class `Answer`, which a script derives from `Handler`: that has a method `answer`, of a status,
    /// a body and headers.
    #[must_use]
    pub fn answering(text: &str) -> Self {
        Self::python(&[HANDLER, text, SERVE].concat())
    }

    /// A registry in memory that lists referrers; `mode` is how it goes wrong. With `late` it takes a manifest with a
    /// subject only when the subject was there before the push of it began (as GitLab did).
    #[must_use]
    pub fn referrers(mode: &str) -> Self {
        let text = include_str!("../fixtures/referrers.py");
        Self::python_with(text, &[("MODE", mode)])
    }

    /// Runs a script with variables.
    #[must_use]
    pub fn python_with(text: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new("python3");
        command
            .args(["-u", "-c", text])
            .envs(variables.iter().copied());
        Self::start(&mut command)
    }

    /// Runs a command.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server can be started");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        out.read_line(&mut line).expect("the server says its port");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let at = words.iter().position(|word| *word == "port");
        let port = words[at.expect("the server says its port") + 1];
        Self {
            child,
            port: port.parse().expect("a port is a number"),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it answers a request over HTTP, headers included.
    pub fn http(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A web server that serves a directory.
#[derive(Debug)]
pub struct Web(Script);

impl Web {
    /// Serves a directory on a free port.
    #[must_use]
    pub fn serve(directory: &Path) -> Self {
        let mut command = Command::new("python3");
        command
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"])
            .current_dir(directory);
        Self(Script::start(&mut command))
    }

    /// The address of a file.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.0.port())
    }
}

//! Answers of a registry: a server on loopback gives the bytes to whatever it is asked.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kiln_graph::Platform;
use kiln_image::{Client, ClientOptions};

/// Longest that the server waits for a question.
const PATIENCE: Duration = Duration::from_millis(200);

struct Server {
    port: u16,
    client: Client,
}

static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Each asks for another tag, so that nothing is remembered.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// An image's manifest is asked for, and these bytes come.
pub fn registry_answer(data: &[u8]) {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let Some(server) = SERVER.get_or_init(start) else {
        return;
    };
    let mut answer = ANSWER.lock().unwrap_or_else(PoisonError::into_inner);
    *answer = data.to_vec();
    drop(answer);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("127.0.0.1:{}/a:t{number}", server.port);
    _ = server.client.resolve(&name, &Platform::host());
}

fn start() -> Option<Server> {
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    let port = listener.local_addr().ok()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream);
        }
    });
    let options = ClientOptions {
        first_wait: Duration::from_micros(1),
        ..ClientOptions::default()
    };
    Some(Server {
        port,
        client: Client::new(options),
    })
}

fn serve(mut stream: TcpStream) {
    _ = stream.set_read_timeout(Some(PATIENCE));
    _ = stream.read(&mut [0; 4096]);
    let answer = ANSWER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    _ = stream.write_all(&answer);
}

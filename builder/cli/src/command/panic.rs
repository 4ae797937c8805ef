//! What is said when something panics.

/// Says that threads can't be started in words, and ends the program: libraries panic then. What is
/// stored stays whole whenever the program ends.
pub(crate) fn explain_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !speaks_of_threads(info.payload_as_str().unwrap_or_default()) {
            return usual(info);
        }
        super::say(
            "ERROR: no more threads can be started: the limit on processes of this user or \
             container is too low (see 'ulimit -u' and the 'pids' control group); raise it, or \
             build with fewer at once: --jobs N",
        );
        std::process::exit(1);
    }));
}

/// Whether it is because the system refuses a thread: EAGAIN, in the words of the standard library,
/// tokio and rayon.
fn speaks_of_threads(text: &str) -> bool {
    let refused = [
        "Resource temporarily unavailable",
        "WouldBlock",
        "os error 11",
    ];
    let thread = ["thread", "Thread"];
    refused.iter().any(|part| text.contains(part)) && thread.iter().any(|part| text.contains(part))
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_known_by_its_words() {
        let texts = [
            "failed to spawn thread: Os { code: 11, kind: WouldBlock, message: \"Resource temporarily unavailable\" }",
            "OS can't spawn worker thread: Resource temporarily unavailable (os error 11)",
            "The global thread pool has not been initialized.: ThreadPoolBuildError { kind: IOError(Os { code: 11, kind: WouldBlock, message: \"Resource temporarily unavailable\" }) }",
        ];
        for text in texts {
            assert!(super::speaks_of_threads(text), "{text}");
        }
        assert!(!super::speaks_of_threads("index out of bounds in a thread"));
        assert!(!super::speaks_of_threads(
            "read: Resource temporarily unavailable"
        ));
    }
}

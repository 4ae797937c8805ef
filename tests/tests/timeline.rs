//! The timeline page, as a browser draws it.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Space, run};

/// The page's document after its script has run.
fn drawn(space: &Space) -> String {
    let page = space.path("t.html");
    _ = space.kiln(&["timeline", "-o", "t.html"]).ok();
    let profile = format!("--user-data-dir={}", space.path("profile").display());
    let address = format!("file://{}", page.display());
    let flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run --dump-dom";
    let mut args: Vec<&str> = flags.split(' ').collect();
    args.extend([profile.as_str(), address.as_str()]);
    run("chromium", &args).ok().stdout
}

/// How often a part is in the page's rows.
fn count(page: &str, part: &str) -> usize {
    let (_, rows) = page.split_once("id=\"rows\">").unwrap();
    let (rows, _) = rows.split_once("<script>").unwrap();
    rows.matches(part).count()
}

#[test]
fn a_browser_draws_the_steps() {
    let space = Space::new();
    let file = format!(
        "FROM {BUSYBOX} AS a\nRUN sleep 0.3; echo '</script>' > /a\nFROM {BUSYBOX}\nRUN echo b > /b\nCOPY --from=a /a /a\nRUN exit 3\nRUN echo never\n"
    );
    space.write("Dockerfile", file);
    space.build(&[]).fails_with(&["exit code: 3"]);
    let page = drawn(&space);
    assert!(
        !page.contains("NaN") && !page.contains("undefined"),
        "{page}"
    );
    assert_eq!(count(&page, "row ran critical"), 2, "{page}");
    assert_eq!(count(&page, "row failed"), 1, "{page}");
    assert_eq!(count(&page, "row waiting"), 1, "{page}");
    assert_eq!(count(&page, "row ran\""), 1, "{page}");
    assert!(page.contains("COPY --from=a /a /a") && page.contains("class=\"error\""));
    assert!(page.contains("<path d=\"M"), "arrows are drawn: {page}");
    space.build(&[]).fails_with(&["exit code: 3"]);
    assert_eq!(count(&drawn(&space), "row cached"), 3);
}

#[test]
fn what_steps_used_is_remembered() {
    let space = Space::new();
    let busy = "RUN i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{busy}\n"));
    _ = space.build(&[]).ok();
    let history = space.kiln(&["history", "--json"]).ok().stdout;
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let step = history[0]["steps"].as_array().unwrap().last().unwrap();
    assert!(step["cpu"].as_u64().unwrap() > 0, "{step}");
    let memory = step["memory"].as_u64().unwrap();
    assert!((100_000..100_000_000).contains(&memory), "{step}");
    let pulled = &history[0]["transfers"][0];
    assert!(
        pulled["name"].as_str().unwrap().starts_with("pull "),
        "{pulled}"
    );
    assert!(pulled["bytes"].as_u64().unwrap() > 0, "{pulled}");
}

#[test]
fn a_build_ends_with_what_it_came_to() {
    let space = Space::new();
    let file = format!("FROM {BUSYBOX}\nRUN sleep 0.2\nRUN echo a >/a; sleep 0.1\nRUN true\n");
    space.write("Dockerfile", file);
    let first = space.kiln(&["build", "context"]).ok().stderr;
    assert!(
        first.contains(": 0 of 3 steps were cached\ncritical path "),
        "{first}"
    );
    assert!(
        first.contains("stage-0[2] RUN sleep 0.2 ") && first.contains(" → stage-0[3] RUN echo"),
        "{first}"
    );
    let again = space.kiln(&["build", "context"]).ok().stderr;
    assert!(again.contains(": 3 of 3 steps were cached\n"), "{again}");
    assert!(!again.contains("critical path"), "{again}");
    let quiet = space.kiln(&["build", "-q", "context"]).ok().stderr;
    assert_eq!(quiet, "");
}

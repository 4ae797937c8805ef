//! Syntax trees as text: parsing the text gives the same tree, but for places.

use std::fmt::{self, Display, Write as _};

use crate::ast::{Command, Copy, Dockerfile, Healthcheck, Heredoc, Instruction, Kind, Mount, Run};

impl Display for Dockerfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for directive in &self.directives {
            writeln!(f, "# {}={}", directive.name, directive.value)?;
        }
        for (number, instruction) in self.instructions.iter().enumerate() {
            let starts_stage = matches!(instruction.kind, Kind::From(_));
            let apart = match number {
                // A comment on the first line would be read as a directive.
                0 => !self.directives.is_empty() || !instruction.comments.is_empty(),
                _ => starts_stage || !instruction.comments.is_empty(),
            };
            if apart {
                writeln!(f)?;
            }
            writeln!(f, "{}", Printed(instruction, self.escape))?;
        }
        Ok(())
    }
}

struct Printed<'a>(&'a Instruction, char);

impl Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(instruction, escape) = self;
        for comment in &instruction.comments {
            writeln!(f, "# {comment}")?;
        }
        let mut rest = String::new();
        kind(&mut rest, &instruction.kind, *escape)?;
        let end = match instruction.kind {
            // They end their own flags, or those of the instruction in them.
            Kind::Add(_)
            | Kind::Copy(_)
            | Kind::From(_)
            | Kind::Run(_)
            | Kind::Healthcheck(_)
            | Kind::Onbuild(_) => "",
            _ => end_of_flags(&rest),
        };
        let mut text = format!("{} {end}{rest}", instruction.keyword);
        // An escape at the end of a line would join it with the next one, but for a blank of
        // another kind behind it.
        let end = text.find('\n').unwrap_or(text.len());
        let line = text[..end].trim_end_matches([' ', '\t']);
        let is_open = line.strip_suffix(*escape);
        if is_open.is_some_and(|before| !before.ends_with(*escape)) {
            text.insert(line.len(), '\u{a0}');
        }
        f.write_str(&text)
    }
}

fn kind(f: &mut String, kind: &Kind, escape: char) -> fmt::Result {
    match kind {
        Kind::Add(copy) | Kind::Copy(copy) => print_copy(f, copy, escape),
        Kind::Arg(args) => {
            let one = |(name, value): &(String, Option<String>)| match value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            };
            f.write_str(&args.iter().map(one).collect::<Vec<_>>().join(" "))
        }
        Kind::Cmd(command) | Kind::Entrypoint(command) => print_command(f, command),
        Kind::Env(pairs) | Kind::Label(pairs) => {
            let one = |(name, value): &(String, String)| match pairs.legacy {
                // An escape would take the only blank away.
                true if name.ends_with(escape) => format!("{name}  {value}"),
                true => format!("{name} {value}"),
                false => format!("{name}={value}"),
            };
            f.write_str(&pairs.pairs.iter().map(one).collect::<Vec<_>>().join(" "))
        }
        Kind::Expose(words) => f.write_str(&words.join(" ")),
        Kind::From(from) => {
            print_flag(f, "platform", from.platform.as_deref(), escape)?;
            f.write_str(end_of_flags(&from.image))?;
            f.write_str(&from.image)?;
            match (&from.as_keyword, &from.name) {
                (Some(keyword), Some(name)) => write!(f, " {keyword} {name}"),
                _ => Ok(()),
            }
        }
        Kind::Healthcheck(check) => print_healthcheck(f, check),
        Kind::Maintainer(text)
        | Kind::Onbuild(text)
        | Kind::Stopsignal(text)
        | Kind::User(text)
        | Kind::Workdir(text) => f.write_str(text),
        Kind::Run(run) => print_run(f, run, escape),
        Kind::Shell(words) | Kind::Volume(words) => f.write_str(&json(words)),
    }
}

/// What keeps an argument from being taken for a flag.
fn end_of_flags(rest: &str) -> &'static str {
    match rest.starts_with("--") {
        true => "-- ",
        false => "",
    }
}

fn json(words: &[String]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}

fn print_command(f: &mut String, command: &Command) -> fmt::Result {
    match command {
        Command::Shell(text) => f.write_str(text),
        Command::Exec(words) => f.write_str(&json(words)),
    }
}

fn print_healthcheck(f: &mut String, check: &Healthcheck) -> fmt::Result {
    let Some(command) = &check.command else {
        return f.write_str("NONE");
    };
    let times = [
        ("interval", check.interval),
        ("timeout", check.timeout),
        ("start-period", check.start_period),
        ("start-interval", check.start_interval),
    ];
    for (name, nanos) in times.iter().filter(|(_, nanos)| *nanos != 0) {
        write!(f, "--{name}={nanos}ns ")?;
    }
    if check.retries != 0 {
        write!(f, "--retries={} ", check.retries)?;
    }
    f.write_str("CMD ")?;
    print_command(f, command)
}

/// A flag with its blank; quoted when its value would fall apart otherwise.
fn print_flag(f: &mut String, name: &str, value: Option<&str>, escape: char) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    let plain = |c: char| !c.is_whitespace() && c != '"' && c != '\'' && c != escape;
    if value.chars().all(plain) {
        return write!(f, "--{name}={value} ");
    }
    write!(f, "--{name}=\"")?;
    for c in value.chars() {
        if c == '"' || c == escape {
            f.write_char(escape)?;
        }
        f.write_char(c)?;
    }
    f.write_str("\" ")
}

fn print_copy(f: &mut String, copy: &Copy, escape: char) -> fmt::Result {
    let texts = [
        ("from", &copy.from),
        ("chown", &copy.chown),
        ("chmod", &copy.chmod),
        ("checksum", &copy.checksum),
    ];
    for (name, value) in texts {
        print_flag(f, name, value.as_deref(), escape)?;
    }
    let truths = [
        ("link", copy.link.then_some(true)),
        ("parents", copy.parents.then_some(true)),
        ("keep-git-dir", copy.keep_git_dir),
        ("unpack", copy.unpack),
    ];
    for (name, value) in truths
        .iter()
        .filter_map(|(name, value)| Some((name, (*value)?)))
    {
        write!(f, "--{name}={value} ")?;
    }
    for pattern in &copy.exclude {
        print_flag(f, "exclude", Some(pattern), escape)?;
    }
    let starts: Vec<String> = copy.heredocs.iter().map(start).collect();
    let mut words = copy.sources.clone();
    words.push(copy.dest.clone());
    let fall_apart = |word: &String| word.is_empty() || word.contains(char::is_whitespace);
    // A quote may hide where a text would start; in JSON none is looked for.
    let is_textless = copy
        .heredocs
        .iter()
        .all(|heredoc| heredoc.content.is_empty());
    let needs_json = match starts.is_empty() {
        true => words.iter().any(fall_apart) || words[0].starts_with('['),
        false => is_textless,
    };
    // Behind a here-document no word can be taken for JSON.
    let words: Vec<String> = starts.into_iter().chain(words).collect();
    if needs_json {
        return f.write_str(&json(&words));
    }
    f.write_str(end_of_flags(&words[0]))?;
    f.write_str(&words.join(" "))?;
    print_heredocs(f, &copy.heredocs)
}

fn start(heredoc: &Heredoc) -> String {
    let quote = if heredoc.expand { "" } else { "\"" };
    let chomp = if heredoc.chomp { "-" } else { "" };
    format!("<<{chomp}{quote}{}{quote}", heredoc.name)
}

fn print_heredocs(f: &mut String, heredocs: &[Heredoc]) -> fmt::Result {
    for heredoc in heredocs {
        write!(f, "\n{}{}", heredoc.content, heredoc.name)?;
    }
    Ok(())
}

fn print_run(f: &mut String, run: &Run, escape: char) -> fmt::Result {
    for mount in &run.mounts {
        print_flag(f, "mount", Some(&mount_text(mount)), escape)?;
    }
    print_flag(f, "network", run.network.as_deref(), escape)?;
    print_flag(f, "security", run.security.as_deref(), escape)?;
    for device in &run.devices {
        print_flag(f, "device", Some(device), escape)?;
    }
    if let Command::Shell(text) = &run.command {
        f.write_str(end_of_flags(text))?;
    }
    print_command(f, &run.command)?;
    print_heredocs(f, &run.heredocs)
}

fn mount_text(mount: &Mount) -> String {
    let field = |(name, value): &(String, Option<String>)| {
        let text = match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        };
        if text.contains([',', '"']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text
        }
    };
    let fields: Vec<String> = mount.fields.iter().map(field).collect();
    fields.join(",")
}

//! The rules of `docker build --check`: those the syntax shows, and those the compiler asks about.

use crate::ast::{Command, Dockerfile, Instruction, Kind};
use crate::suggest::nearest;
use crate::{Diagnostic, Rule};

/// Which rules are checked: the `check` directive, or the build argument that overrides it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    skip: Vec<String>,
    /// Rules that are checked only when asked for by name.
    experimental: Vec<String>,
    error: bool,
}

impl Checks {
    pub(crate) fn of(file: &Dockerfile, argument: Option<&String>) -> Self {
        let directive = file
            .directives
            .iter()
            .find(|directive| directive.name == "check");
        let text = argument
            .map(String::as_str)
            .or(directive.map(|directive| directive.value.as_str()));
        Self::parse(text.unwrap_or(""))
    }

    /// `skip=A,B;error=true`.
    fn parse(text: &str) -> Self {
        let mut checks = Self::default();
        for part in text.split(';') {
            match part.trim().split_once('=') {
                Some(("skip", names)) => checks.skip.extend(rule_names(names)),
                Some(("experimental", names)) => checks.experimental.extend(rule_names(names)),
                Some(("error", value)) => checks.error = value.trim().eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        checks
    }

    fn skips(&self, rule: Rule) -> bool {
        let name = rule.name().to_ascii_lowercase();
        let has = |names: &[String]| names.iter().any(|known| *known == "all" || *known == name);
        has(&self.skip) || (rule.is_experimental() && !has(&self.experimental))
    }
}

fn rule_names(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(|name| name.trim().to_ascii_lowercase())
}

/// A variable that isn't set, and the names that are known.
pub(crate) struct Suspect<'a> {
    pub(crate) name: &'a str,
    pub(crate) known: Vec<&'a str>,
}

/// Collects warnings.
pub(crate) struct Linter {
    checks: Checks,
    found: Vec<Diagnostic>,
}

impl Linter {
    pub(crate) fn new(checks: Checks) -> Self {
        Self {
            checks,
            found: Vec::new(),
        }
    }

    /// The warnings in the order of the file, each once; and whether they are errors.
    pub(crate) fn finish(mut self) -> (Vec<Diagnostic>, bool) {
        self.found
            .sort_by_key(|found| (found.location.line, found.rule));
        self.found.dedup();
        (self.found, self.checks.error)
    }

    fn warn(&mut self, at: &Instruction, rule: Rule, message: String) {
        let skipped_here = at.comments.iter().any(|comment| {
            comment
                .strip_prefix("check=")
                .is_some_and(|text| Checks::parse(text).skips(rule))
        });
        if !skipped_here && !self.checks.skips(rule) {
            self.found.push(Diagnostic {
                rule,
                message,
                location: at.location.clone(),
            });
        }
    }

    pub(crate) fn undefined(&mut self, at: &Instruction, suspect: &Suspect<'_>) {
        let hint = nearest(suspect.name, suspect.known.iter().copied());
        let hint = hint
            .map(|name| format!(" (did you mean ${name}?)"))
            .unwrap_or_default();
        let message = format!("Usage of undefined variable '${}'{hint}", suspect.name);
        self.warn(at, Rule::UndefinedVar, message);
    }

    pub(crate) fn undeclared(&mut self, at: &Instruction, suspect: &Suspect<'_>) {
        let hint = nearest(suspect.name, suspect.known.iter().copied());
        let hint = hint
            .map(|name| format!(" (did you mean {name}?)"))
            .unwrap_or_default();
        let message = format!("FROM argument '{}' is not declared{hint}", suspect.name);
        self.warn(at, Rule::UndefinedArgInFrom, message);
    }

    pub(crate) fn bad_default(&mut self, at: &Instruction, image: &str) {
        let message =
            format!("Default value for ARG {image} results in empty or invalid base image name");
        self.warn(at, Rule::InvalidDefaultArgInFrom, message);
    }

    pub(crate) fn ignored(&mut self, at: &Instruction, source: &str, verb: &str) {
        let message =
            format!("Attempting to {verb} file \"{source}\" that is excluded by .dockerignore");
        self.warn(at, Rule::CopyIgnoredFile, message);
    }

    pub(crate) fn secret_name(&mut self, at: &Instruction, name: &str, keyword: &str) {
        const SUSPICIOUS: &[&str] = &[
            "apikey",
            "auth",
            "credential",
            "credentials",
            "key",
            "password",
            "pword",
            "passwd",
            "secret",
            "token",
        ];
        let lower = name.to_ascii_lowercase();
        let is_public = lower.contains("public");
        if !is_public && lower.split('_').any(|part| SUSPICIOUS.contains(&part)) {
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({keyword} \"{name}\")"
            );
            self.warn(at, Rule::SecretsUsedInArgOrEnv, message);
        }
    }

    pub(crate) fn expose(&mut self, at: &Instruction, port: &str) {
        let (ports, protocol) = port.split_once('/').unwrap_or((port, ""));
        if protocol.chars().any(|c| c.is_ascii_uppercase()) {
            let message =
                format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
            self.warn(at, Rule::ExposeProtoCasing, message);
        }
        if ports.contains(':') {
            let message = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
            );
            self.warn(at, Rule::ExposeInvalidFormat, message);
        }
    }

    pub(crate) fn relative_workdir(&mut self, at: &Instruction, path: &str) {
        let message = format!(
            "Relative workdir \"{path}\" can have unexpected results if the base image changes"
        );
        self.warn(at, Rule::WorkdirRelativePath, message);
    }

    pub(crate) fn platform_flag(&mut self, at: &Instruction, text: &str) {
        if ["$TARGETPLATFORM", "${TARGETPLATFORM}"].contains(&text) {
            let message = format!(
                "Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
            );
            self.warn(at, Rule::RedundantTargetPlatform, message);
        } else if !text.contains('$') {
            let message = format!("FROM --platform flag should not use constant value \"{text}\"");
            self.warn(at, Rule::FromPlatformFlagConstDisallowed, message);
        }
    }
}

/// Checks what needs no variables.
pub(crate) fn check_syntax(file: &Dockerfile, lint: &mut Linter) {
    check_casing(file, lint);
    let mut seen = Seen::default();
    for instruction in &file.instructions {
        check_instruction(instruction, &mut seen, lint);
    }
    for location in &file.empty_continuations {
        let at = file
            .instructions
            .iter()
            .find(|i| i.location.covers_line(location.line));
        if let Some(at) = at {
            lint.warn(
                at,
                Rule::NoEmptyContinuation,
                "Empty continuation line".to_owned(),
            );
        }
    }
}

#[derive(Default)]
struct Seen {
    stages: Vec<String>,
    kinds: Vec<&'static str>,
}

fn check_instruction(at: &Instruction, seen: &mut Seen, lint: &mut Linter) {
    match &at.kind {
        Kind::From(from) => {
            seen.kinds.clear();
            check_from(at, from, seen, lint);
        }
        Kind::Arg(args) => {
            for (name, _) in args {
                check_description(at, name, lint);
            }
        }
        Kind::Cmd(command) => check_command(at, "CMD", command, seen, lint),
        Kind::Entrypoint(command) => check_command(at, "ENTRYPOINT", command, seen, lint),
        Kind::Healthcheck(_) => check_once(at, "HEALTHCHECK", seen, lint),
        Kind::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
            lint.warn(at, Rule::MaintainerDeprecated, message);
        }
        Kind::Env(pairs) | Kind::Label(pairs) if pairs.legacy => {
            let keyword = at.keyword.to_ascii_uppercase();
            let message = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            lint.warn(at, Rule::LegacyKeyValueFormat, message);
        }
        _ => {}
    }
}

fn check_command(
    at: &Instruction,
    keyword: &'static str,
    command: &Command,
    seen: &mut Seen,
    lint: &mut Linter,
) {
    if matches!(command, Command::Shell(_)) {
        let message = format!(
            "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
        );
        lint.warn(at, Rule::JSONArgsRecommended, message);
    }
    check_once(at, keyword, seen, lint);
}

fn check_once(at: &Instruction, keyword: &'static str, seen: &mut Seen, lint: &mut Linter) {
    if seen.kinds.contains(&keyword) {
        let message = format!(
            "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
        );
        lint.warn(at, Rule::MultipleInstructionsDisallowed, message);
    }
    seen.kinds.push(keyword);
}

fn check_from(at: &Instruction, from: &crate::ast::From, seen: &mut Seen, lint: &mut Linter) {
    let Some(name) = &from.name else { return };
    check_description(at, name, lint);
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        lint.warn(
            at,
            Rule::StageNameCasing,
            format!("Stage name '{name}' should be lowercase"),
        );
    }
    let lower = name.to_ascii_lowercase();
    if ["scratch", "context"].contains(&lower.as_str()) {
        lint.warn(
            at,
            Rule::ReservedStageName,
            format!("Stage name should not use the same name as reserved stage \"{lower}\""),
        );
    }
    if seen.stages.contains(&lower) {
        lint.warn(
            at,
            Rule::DuplicateStageName,
            format!("Duplicate stage name \"{name}\", stage names should be unique"),
        );
    }
    seen.stages.push(lower);
    let keyword = from.as_keyword.as_deref().unwrap_or_default();
    if is_upper(keyword) != is_upper(&at.keyword) {
        let message = format!(
            "'{keyword}' and '{}' keywords' casing do not match",
            at.keyword
        );
        lint.warn(at, Rule::FromAsCasing, message);
    }
}

/// A comment right above an argument or a stage is its description, and starts with its name.
fn check_description(at: &Instruction, name: &str, lint: &mut Linter) {
    let Some(last) = at.comments.last() else {
        return;
    };
    let is_other = last.starts_with("check=") || last.starts_with("layer:");
    if !is_other && at.description(name).is_none() {
        let keyword = match &at.kind {
            Kind::From(_) => "build stage",
            _ => "argument",
        };
        let message = format!(
            "Comment for {keyword} should follow the format: `# {name} <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment."
        );
        lint.warn(at, Rule::InvalidDefinitionDescription, message);
    }
}

fn is_upper(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_uppercase())
}

fn check_casing(file: &Dockerfile, lint: &mut Linter) {
    let upper = file
        .instructions
        .iter()
        .filter(|i| is_upper(&i.keyword))
        .count();
    let most_are_upper = upper * 2 >= file.instructions.len();
    let is_lower = |word: &str| word.chars().all(|c| c.is_ascii_lowercase());
    for at in &file.instructions {
        let fits = if most_are_upper {
            is_upper(&at.keyword)
        } else {
            is_lower(&at.keyword)
        };
        if !fits {
            let wanted = if most_are_upper {
                "uppercase"
            } else {
                "lowercase"
            };
            let message = format!(
                "Command '{}' should match the case of the command majority ({wanted})",
                at.keyword
            );
            lint.warn(at, Rule::ConsistentInstructionCasing, message);
        }
    }
}

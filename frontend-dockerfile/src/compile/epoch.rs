//! `SOURCE_DATE_EPOCH` (<https://reproducible-builds.org/specs/source-date-epoch/>).

use kiln_graph::{Build, ImageTable, Op, StepId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::stage_source::{StageSource, split_stages};
use super::{Options, Outcome, compile};
use crate::DockerfileError;
use crate::ast::{Dockerfile, Instruction, Kind};

const NAME: &str = "SOURCE_DATE_EPOCH";

/// The time that everything new in the image gets, if the user fixed one.
pub(crate) fn created(options: &Options) -> Result<Option<String>, DockerfileError> {
    let Some(text) = options.build_args.get(NAME).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let bad = || {
        DockerfileError::whole(format!("invalid SOURCE_DATE_EPOCH: {text}"))
            .with_help("give whole seconds since 1970")
    };
    let seconds: i64 = text.parse().map_err(|_| bad())?;
    let time = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| bad())?;
    Ok(Some(time.format(&Rfc3339).map_err(|_| bad())?))
}

/// What `SOURCE_DATE_EPOCH=STAGE` takes the time from: the one file or repository that the stage adds
/// to an empty image, as BuildKit has it. `None` when there is no stage of that name.
///
/// # Errors
/// When the stage has anything else in it, or a mistake.
pub fn epoch_source(
    file: &Dockerfile,
    options: &Options,
    stage: &str,
) -> Result<Option<Op>, DockerfileError> {
    let Some(StageSource { head, body, .. }) = stage_of(file, stage) else {
        return Ok(None);
    };
    let fault = |at: &Instruction, reason: &str| {
        DockerfileError::at(at.location.clone(), format!("{NAME} stage {reason}"))
            .with_help("the stage is FROM scratch with one ADD of an address, and ARG")
    };
    let is_other = |line: &&Instruction| !matches!(line.kind, Kind::Arg(_) | Kind::Add(_));
    if let Some(other) = body.iter().find(is_other) {
        let keyword = other.keyword.to_uppercase();
        let reason =
            format!("does not meet source-only requirements: unsupported {keyword} instruction");
        return Err(fault(other, &reason));
    }
    let mut alone = options.clone();
    alone.target = Some(stage.to_owned());
    _ = alone.build_args.remove(NAME);
    let build = match compile(file, &alone, &ImageTable::new())? {
        Outcome::Done(compiled) => compiled.build,
        Outcome::Needs(_) => return Err(fault(head, "must use FROM scratch")),
    };
    match only_source(&build) {
        Some(source) => Ok(Some(source)),
        None => Err(fault(head, "must contain exactly one remote ADD")),
    }
}

/// A stage by its name; of several of one name, a target is the last.
fn stage_of<'a>(file: &'a Dockerfile, name: &str) -> Option<StageSource<'a>> {
    let mut last_first = split_stages(file).into_iter().rev();
    last_first.find(|stage| {
        let own = stage.from.name.as_ref();
        own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    })
}

/// The one source of a build that has no others.
fn only_source(build: &Build) -> Option<Op> {
    // Of several platforms, each has the same one.
    let root: StepId = build.targets.first()?.root;
    let needed = build.graph.needed_for(&[root]);
    let ops = needed.into_iter().map(|id| &build.graph.step(id).op);
    let mut sources = ops.filter(|op| op.inputs().is_empty() && !matches!(op, Op::Scratch));
    let only = sources.next()?;
    let is_remote = matches!(only, Op::Git(_) | Op::Http(_));
    (is_remote && sources.next().is_none()).then(|| only.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn source(text: &str) -> Result<Option<Op>, String> {
        let file = parse("Dockerfile", text).unwrap();
        let options = Options {
            build_args: [(NAME.to_owned(), "src".to_owned())].into(),
            ..Options::default()
        };
        epoch_source(&file, &options, "src").map_err(|error| error.message)
    }

    #[test]
    fn the_time_is_that_of_the_only_source() {
        const AFTER: &str = "FROM busybox\nRUN true\n";
        let text = format!(
            "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS Src\nARG V=1\nADD http://a.example/$V.tar /\n{AFTER}"
        );
        match source(&text) {
            Ok(Some(Op::Http(http))) => assert_eq!(http.url, "http://a.example/1.tar"),
            other => panic!("{other:?}"),
        }
        let git = format!("FROM scratch AS src\nADD https://a.example/b.git#main /\n{AFTER}");
        assert!(matches!(source(&git), Ok(Some(Op::Git(_)))));
        assert_eq!(source(AFTER), Ok(None));
        let twice = format!("FROM busybox AS src\n{git}");
        assert!(matches!(source(&twice), Ok(Some(Op::Git(_)))));
        for (stage, reason) in [
            (
                "FROM scratch AS src\nCOPY a /",
                "unsupported COPY instruction",
            ),
            ("FROM scratch AS src\nRUN a", "unsupported RUN instruction"),
            ("FROM scratch AS src\nADD a /", "exactly one remote ADD"),
            ("FROM scratch AS src", "exactly one remote ADD"),
            (
                "FROM scratch AS src\nADD http://a.example/1 http://a.example/2 /",
                "exactly one remote ADD",
            ),
            (
                "FROM busybox AS src\nADD http://a.example/1 /",
                "must use FROM scratch",
            ),
        ] {
            let refused = source(&format!("{stage}\n{AFTER}")).unwrap_err();
            assert!(refused.contains(reason), "{stage}: {refused}");
        }
    }
}

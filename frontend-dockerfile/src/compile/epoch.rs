//! `SOURCE_DATE_EPOCH` (<https://reproducible-builds.org/specs/source-date-epoch/>).

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Options;
use crate::DockerfileError;

/// The time that everything new in the image gets, if the user fixed one.
pub(crate) fn created(options: &Options) -> Result<Option<String>, DockerfileError> {
    let Some(text) = options
        .build_args
        .get("SOURCE_DATE_EPOCH")
        .filter(|text| !text.is_empty())
    else {
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

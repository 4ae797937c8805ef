//! `SOURCE_DATE_EPOCH`, which may be the name of what has the time.

use std::collections::BTreeMap;

use kiln_engine::Request;
use kiln_frontend_dockerfile::ast::Dockerfile;
use kiln_frontend_dockerfile::{Options, epoch_source};

use crate::build_file::base_image::BaseImages;
use crate::context::Fetcher;
use crate::{Assume, DockerfileRequest, Error};

const NAME: &str = "SOURCE_DATE_EPOCH";

/// What the time can be taken from.
pub(super) struct Epochs<'a> {
    pub(super) request: &'a DockerfileRequest,
    pub(super) images: &'a BaseImages<'a>,
    /// When contexts were made, of those that say it.
    pub(super) times: &'a BTreeMap<String, i64>,
}

impl Epochs<'_> {
    /// Makes the argument a number, wherever it is given: `context` is the time of the main context,
    /// another name that of a named context, or of the file or repository that a stage consists of. What says
    /// no time, such as a directory, leaves it unset (<https://github.com/moby/buildkit/pull/6602>).
    ///
    /// # Errors
    /// When a stage is more than that, or its source can't be had.
    pub(super) fn fix(
        &self,
        options: &mut Options,
        file: Option<&Dockerfile>,
    ) -> Result<(), Error> {
        let given = options.build_args.get(NAME).cloned();
        let value = given.or_else(|| file?.global_arg(NAME).map(str::to_owned));
        let Some(value) = value else {
            return Ok(());
        };
        let time = match value.as_str() {
            "" => None,
            "context" => self.times.get("context").copied(),
            name if options.contexts.contains_key(name) => self.times.get(name).copied(),
            other => match self.of_stage(options, file, other)? {
                Some(time) => time,
                // A number, or a mistake that is found when it is read.
                None => {
                    options.build_args.insert(NAME.to_owned(), value);
                    return Ok(());
                }
            },
        };
        let text = time.map_or_else(String::new, |time| time.to_string());
        options.build_args.insert(NAME.to_owned(), text);
        Ok(())
    }

    /// The time of a stage's source; `None` when there is no such stage.
    fn of_stage(
        &self,
        options: &Options,
        file: Option<&Dockerfile>,
        name: &str,
    ) -> Result<Option<Option<i64>>, Error> {
        if name.parse::<i64>().is_ok() {
            return Ok(None);
        }
        let Some(file) = file else {
            return Ok(None);
        };
        let Some(source) = epoch_source(file, options, name)? else {
            return Ok(None);
        };
        if self.request.assume_images != Assume::Nothing {
            // Nothing is fetched to look at a build file.
            return Ok(Some(None));
        }
        let settle = |request: &mut Request| self.images.settle(request);
        let fetcher = Fetcher::new(self.images.engine, self.request);
        fetcher.time(name, &source, &settle).map(Some)
    }
}

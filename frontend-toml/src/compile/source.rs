//! Sources: directories, images, git repositories, files on web servers.

use std::rc::Rc;

use kiln_graph::{
    BlobDigest, ContextSource, GitSource, History, HistoryLine, HttpRequest, HttpSource,
    ImageConfig, ImagePath, ImageRequest, LayerOrigin, Op, Platform, StepName, context_for,
    split_context_name,
};

use super::NamedContext;
use super::compiler::{Compiler, Made, New, View};
use crate::check;
use crate::error::Wrong;
use crate::model::Source;
use crate::pattern;
use crate::suggest::did_you_mean;
use crate::text::{Name, Text};

/// The one kind that a source is.
enum Kind<'s> {
    Context(&'s Text),
    Image(&'s Text),
    Git(&'s Text),
    Http(&'s Text),
}

impl<'s> Kind<'s> {
    fn of(name: &Name, source: &'s Source) -> Result<Self, Wrong> {
        let kinds = [
            source.context.as_ref().map(Self::Context),
            source.image.as_ref().map(Self::Image),
            source.git.as_ref().map(Self::Git),
            source.http.as_ref().map(Self::Http),
        ];
        let mut kinds = kinds.into_iter().flatten();
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => kind.with_its_keys(name, source),
            _ => {
                let text = "needs exactly one of context, image, git and http";
                let message = format!("the source '{name}' {text}");
                Err(Wrong::at(name.span(), message))
            }
        }
    }

    /// Keys of other kinds would do nothing, which nobody wants who writes them.
    fn with_its_keys(self, name: &Name, source: &Source) -> Result<Self, Wrong> {
        let own: &[&str] = match self {
            Self::Context(_) => &["include", "exclude"],
            Self::Image(_) => &[],
            Self::Git(_) => &["ref", "subdir", "checksum"],
            Self::Http(_) => &["file", "checksum"],
        };
        let given = [
            ("include", source.include.first()),
            ("exclude", source.exclude.first()),
            ("ref", source.reference.as_ref()),
            ("subdir", source.subdir.as_ref()),
            ("checksum", source.checksum.as_ref()),
            ("file", source.file.as_ref()),
        ];
        if let (Some(verify), false) = (&source.verify, matches!(self, Self::Image(_))) {
            let message = format!("'verify' is about images, and '{name}' is {}", self.shown());
            return Err(Wrong::at(&verify.span, message));
        }
        let mut given = given
            .into_iter()
            .filter_map(|(key, text)| Some((key, text?)));
        match given.find(|(key, _)| !own.contains(key)) {
            None => Ok(self),
            Some((key, text)) => {
                let kind = self.shown();
                let message =
                    format!("'{key}' means nothing for {kind}, as '{name}' is: leave it out");
                Err(Wrong::at(&text.span, message))
            }
        }
    }

    fn shown(&self) -> &'static str {
        match self {
            Self::Context(_) => "a directory",
            Self::Image(_) => "an image",
            Self::Git(_) => "a git repository",
            Self::Http(_) => "a file on a web server",
        }
    }
}

impl Compiler<'_> {
    /// A source of the file, `scratch`, or an image by its name.
    pub(super) fn source_or_image(
        &mut self,
        asked: &Text,
        wanted: &str,
        view: &View<'_>,
        platform: &Platform,
    ) -> Result<Made, Wrong> {
        let contexts = &self.options.contexts;
        if let Some((name, context)) = context_for(contexts, |known| known == wanted, platform) {
            return self.replaced(asked, name, context, view, platform);
        }
        if let Some((name, source)) = self.file.sources.get_key_value(wanted) {
            // The matrix of whoever names it doesn't count in it.
            let view = self.view(&view.platform);
            return self.source(name, source, &view, platform);
        }
        if wanted == "scratch" {
            return self.plain(asked, wanted, Op::Scratch, platform, platform);
        }
        let base = wanted.split('@').next().unwrap_or(wanted);
        if self.file.templates.contains_key(base) {
            let message = format!(
                "'{base}' is a template, which makes no files: extends = [\"{base}\"] takes its keys"
            );
            return Err(Wrong::at(&asked.span, message));
        }
        // A name without any of these is a slip rather than an image.
        if !wanted.contains(['/', ':', '.', '@']) {
            let known = self.file.steps.keys().chain(self.file.sources.keys());
            let known = known.map(Name::as_str).chain(["scratch"]);
            let hint = did_you_mean(wanted, known);
            let image = format!("an image is named with its tag, such as '{wanted}:latest'");
            let message = format!("there is no step or source '{wanted}'{hint}; {image}");
            return Err(Wrong::at(&asked.span, message));
        }
        self.name_image(asked, wanted, platform, None, view)?;
        self.image_source(asked, wanted, platform)
    }

    /// What the command line wants in place of a source or an image.
    fn replaced(
        &mut self,
        asked: &Text,
        name: &str,
        context: &NamedContext,
        view: &View<'_>,
        platform: &Platform,
    ) -> Result<Made, Wrong> {
        self.used_contexts.insert(name.to_owned());
        match context {
            NamedContext::Directory(ignore) => {
                let op = Op::Context(ContextSource {
                    name: name.to_owned(),
                    ignore: ignore.clone(),
                });
                let own = self.options.build_platform.clone();
                self.plain(asked, name, op, &own, platform)
            }
            NamedContext::Image(image) => self.image_source(asked, image, platform),
            NamedContext::Step(step) => {
                let step = Text {
                    value: step.clone(),
                    span: asked.span.clone(),
                };
                self.named_on(&step, view, platform)
            }
        }
    }

    /// A named context that stands for nothing is a slip.
    pub(super) fn check_contexts(&self) -> Result<(), Wrong> {
        let platforms = &self.options.platforms;
        let is_useless = |name: &&String| {
            let own = split_context_name(name).1;
            let is_built = own.is_none_or(|own| platforms.contains(&own));
            is_built && !self.used_contexts.contains(*name)
        };
        let Some(useless) = self.options.contexts.keys().find(is_useless) else {
            return Ok(());
        };
        let known = self.file.sources.keys().map(Name::as_str);
        let hint = did_you_mean(useless, known);
        let message = format!(
            "--build-context {useless}: the file has no source of this name and no step from such an image{hint}"
        );
        Err(Wrong::whole(message))
    }

    fn source(
        &mut self,
        name: &Name,
        source: &Source,
        view: &View<'_>,
        platform: &Platform,
    ) -> Result<Made, Wrong> {
        let (at, op) = match Kind::of(name, source)? {
            Kind::Context(directory) => (directory, self.context(name, directory, source, view)?),
            Kind::Image(image) => {
                let wanted = view.fill(image)?;
                self.name_image(image, &wanted, platform, source.verify.as_ref(), view)?;
                return self.image_source(image, &wanted, platform);
            }
            Kind::Git(remote) => (remote, git(remote, source, view)?),
            Kind::Http(url) => (url, http(url, source, view)?),
        };
        // Files are the same whatever platform the step that uses them runs on.
        let own = self.options.build_platform.clone();
        self.plain(at, name.as_str(), op, &own, platform)
    }

    fn context(
        &mut self,
        name: &Name,
        directory: &Text,
        source: &Source,
        view: &View<'_>,
    ) -> Result<Op, Wrong> {
        let path = view.fill(directory)?;
        if !check::is_inside(&path) {
            let message =
                format!("'{path}' is outside of the build context: name a directory in it");
            return Err(Wrong::at(&directory.span, message));
        }
        let mut ignore = pattern::only(&patterns(&source.include, view)?);
        if ImagePath::new(&path).is_root() {
            ignore.extend(self.options.ignore.iter().cloned());
        }
        ignore.extend(patterns(&source.exclude, view)?);
        self.directories.insert(name.to_string(), path);
        Ok(Op::Context(ContextSource {
            name: name.to_string(),
            ignore,
        }))
    }

    pub(super) fn plain(
        &mut self,
        at: &Text,
        text: &str,
        op: Op,
        platform: &Platform,
        used_on: &Platform,
    ) -> Result<Made, Wrong> {
        let step = self.add(New {
            op,
            inputs: Vec::new(),
            name: StepName::plain(text),
            reuse: kiln_graph::Reuse::Always,
            remote: kiln_graph::WorkerProperties::none(),
            platform,
            at: &at.span,
        })?;
        Ok(Made {
            step,
            platform: used_on.clone(),
            config: Rc::new(ImageConfig::scratch(used_on)),
            history: None,
            waits: false,
        })
    }

    /// An image; one that isn't known yet is noted, and empty until it is.
    fn image_source(
        &mut self,
        asked: &Text,
        name: &str,
        platform: &Platform,
    ) -> Result<Made, Wrong> {
        let request = ImageRequest {
            name: name.to_owned(),
            platform: platform.clone(),
        };
        let text = format!("image {name}");
        let Some(image) = self.images.get(&request) else {
            let place = self.file.files.location(&asked.span);
            self.needs.entry(request).or_insert(place);
            return self.plain(asked, &text, Op::Scratch, platform, platform);
        };
        let op = Op::Image(image.source.clone());
        let config = Rc::new(image.config.clone());
        let made = self.plain(asked, &text, op, platform, platform)?;
        let mut history = None;
        for line in &config.history {
            history = self.line(history, base_line(line));
        }
        Ok(Made {
            config,
            history,
            ..made
        })
    }
}

fn base_line(line: &History) -> HistoryLine {
    HistoryLine {
        created_by: line.created_by.clone(),
        comment: line.comment.clone(),
        author: line.author.clone(),
        layer: match line.empty_layer {
            true => LayerOrigin::None,
            false => LayerOrigin::Base,
        },
        created: line.created.clone(),
        layer_name: None,
    }
}

fn git(remote: &Text, source: &Source, view: &View<'_>) -> Result<Op, Wrong> {
    let reference = view.fill_some(source.reference.as_ref())?;
    let subdir = view.fill_some(source.subdir.as_ref())?;
    Ok(Op::Git(GitSource {
        remote: view.fill(remote)?,
        reference: reference.unwrap_or_default(),
        subdir: ImagePath::new(subdir.unwrap_or_default()),
        keep_git_dir: false,
        checksum: view.fill_some(source.checksum.as_ref())?,
        submodules: true,
    }))
}

fn http(url: &Text, source: &Source, view: &View<'_>) -> Result<Op, Wrong> {
    let digest = |text: &Text| {
        let read = view.fill(text)?.parse::<BlobDigest>();
        read.map_err(|error| Wrong::at(&text.span, format!("checksum: {error}")))
    };
    Ok(Op::Http(HttpSource {
        url: view.fill(url)?,
        checksum: source.checksum.as_ref().map(digest).transpose()?,
        file_name: view.fill_some(source.file.as_ref())?,
        request: HttpRequest::default(),
    }))
}

/// A list of patterns, filled in and cleaned.
pub(super) fn patterns(texts: &[Text], view: &View<'_>) -> Result<Vec<String>, Wrong> {
    let one = |text: &Text| {
        let filled = view.fill(text)?;
        pattern::clean(&filled).map_err(|message| Wrong::at(&text.span, message))
    };
    texts.iter().map(one).collect()
}

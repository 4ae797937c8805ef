//! Sources: folders, images, git repositories, files on web servers.

use kiln_graph::{
    BlobDigest, ContextSource, GitSource, HistoryLine, HttpSource, ImageConfig, ImagePath,
    ImageRequest, LayerOrigin, Op, Platform, StepName,
};

use super::{Compiler, Made, Stop};
use crate::error::Wrong;
use crate::matrix;
use crate::model::Source;
use crate::suggest::did_you_mean;
use crate::text::Text;

impl Compiler<'_> {
    /// A source of the file, `scratch`, or an image by its name.
    pub(super) fn source_or_image(
        &mut self,
        asked: &Text,
        name: &str,
        platform: &Platform,
    ) -> Result<Made, Stop> {
        self.at(asked);
        if let Some(source) = self.file.sources.get(name) {
            return self.source(asked, name, source, platform);
        }
        if name == "scratch" {
            return self.plain(name, Op::Scratch, platform);
        }
        if let Some((base, _)) = name.split_once('@')
            && let Some(step) = self
                .file
                .steps
                .get(base)
                .or_else(|| self.file.tests.get(base))
        {
            let all = matrix::combinations(&step.matrix);
            let names: Vec<String> = all
                .iter()
                .map(|chosen| matrix::name(base, chosen))
                .collect();
            let text = format!(
                "there is no '{name}': the step '{base}' makes {}",
                names.join(", ")
            );
            return Err(Wrong::at(asked, text).into());
        }
        // A name without any of these is a slip rather than an image.
        if !name.contains(['/', ':', '.', '@']) {
            let known = self.file.steps.keys().chain(self.file.sources.keys());
            let hint = did_you_mean(name, known.map(String::as_str));
            let text = format!(
                "there is no step or source '{name}'{hint}; an image is named with its tag, such as '{name}:latest'"
            );
            return Err(Wrong::at(asked, text).into());
        }
        self.image_source(name, platform)
    }

    fn source(
        &mut self,
        asked: &Text,
        name: &str,
        source: &Source,
        platform: &Platform,
    ) -> Result<Made, Stop> {
        let kinds = [&source.context, &source.image, &source.git, &source.http];
        if kinds.iter().filter(|kind| kind.is_some()).count() != 1 {
            let text =
                format!("the source '{name}' needs exactly one of context, image, git and http");
            return Err(Wrong::at(asked, text).into());
        }
        let scope = self.scope(platform);
        if let Some(image) = &source.image {
            let image = self.fill(image, &scope)?;
            return self.image_source(&image, platform);
        }
        let fill = |this: &Self, text: &Option<Text>| -> Result<String, Stop> {
            text.as_ref()
                .map_or(Ok(String::new()), |text| this.fill(text, &scope))
        };
        let op = if let Some(folder) = &source.context {
            let folder = self.fill(folder, &scope)?;
            let mut ignore = if folder == "." {
                self.options.ignore.clone()
            } else {
                Vec::new()
            };
            ignore.extend(source.exclude.iter().cloned());
            self.folders.insert(name.to_owned(), folder);
            Op::Context(ContextSource {
                name: name.to_owned(),
                ignore,
            })
        } else if let Some(git) = &source.git {
            let subdir = fill(self, &source.subdir)?;
            Op::Git(GitSource {
                remote: self.fill(git, &scope)?,
                reference: fill(self, &source.reference)?,
                subdir: ImagePath::new(subdir),
                keep_git_dir: false,
                checksum: Some(fill(self, &source.checksum)?).filter(|sum| !sum.is_empty()),
                submodules: true,
            })
        } else {
            Op::Http(HttpSource {
                url: fill(self, &source.http)?,
                checksum: self.checksum(source)?,
                file_name: None,
            })
        };
        // Files are the same whatever platform the step that uses them runs on.
        let platform = self.options.build_platform.clone();
        self.plain(name, op, &platform)
    }

    fn checksum(&self, source: &Source) -> Result<Option<BlobDigest>, Stop> {
        let Some(text) = &source.checksum else {
            return Ok(None);
        };
        let digest = text.value.parse::<BlobDigest>();
        digest
            .map(Some)
            .map_err(|error| Wrong::at(text, format!("checksum: {error}")).into())
    }

    fn plain(&mut self, text: &str, op: Op, platform: &Platform) -> Result<Made, Stop> {
        let step = self.add(op, Vec::new(), source_name(text), false, platform)?;
        Ok(Made {
            step,
            config: ImageConfig::scratch(platform),
            history: Vec::new(),
        })
    }

    fn image_source(&mut self, name: &str, platform: &Platform) -> Result<Made, Stop> {
        let request = ImageRequest {
            name: name.to_owned(),
            platform: platform.clone(),
        };
        let Some(image) = self.images.get(&request) else {
            self.needs.insert(request, self.place.at.clone());
            return Err(Stop::Needs);
        };
        let (source, config) = (image.source.clone(), image.config.clone());
        let op = Op::Image(source);
        let step = self.add(
            op,
            Vec::new(),
            source_name(&format!("image {name}")),
            false,
            platform,
        )?;
        let line = |line: &kiln_graph::History| HistoryLine {
            created_by: line.created_by.clone(),
            comment: line.comment.clone(),
            author: line.author.clone(),
            layer: match line.empty_layer {
                true => LayerOrigin::None,
                false => LayerOrigin::Base,
            },
            created: line.created.clone(),
            layer_name: None,
        };
        let history = config.history.iter().map(line).collect();
        Ok(Made {
            step,
            config,
            history,
        })
    }
}

fn source_name(text: &str) -> StepName {
    StepName {
        stage: String::new(),
        number: 0,
        of: 0,
        text: text.to_owned(),
    }
}

//! Makes a build step by step, for programs: what a frontend makes of a file, with defaults.

use std::collections::BTreeMap;

use crate::{
    Build, ContextSource, CopyFiles, Exec, FileAction, Files, Graph, GraphError, HistoryLine,
    ImageConfig, ImagePath, Input, LayerOrigin, Op, Platform, ResolvedImage, Step, StepId, Target,
};

/// Makes a [`Build`]. Each method adds one step and returns it; [`GraphBuilder::build`] says which
/// is the image's root.
///
/// ```
/// # use kiln_graph::{GraphBuilder, Platform};
/// let mut graph = GraphBuilder::new(Platform::host());
/// let empty = graph.scratch()?;
/// let hello = graph.write(empty, "/hello", "hello\n")?;
/// let build = graph.build(hello);
/// assert_eq!(build.targets.len(), 1);
/// # Ok::<(), kiln_graph::GraphError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GraphBuilder {
    graph: Graph,
    platform: Platform,
    config: ImageConfig,
    /// The environment of images, by the step that fetches one.
    environments: BTreeMap<StepId, Vec<(String, String)>>,
}

impl GraphBuilder {
    /// A builder of an image for a platform.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        Self {
            graph: Graph::new(),
            config: ImageConfig::scratch(&platform),
            platform,
            environments: BTreeMap::new(),
        }
    }

    /// The empty tree.
    ///
    /// # Errors
    /// Never for steps of this builder.
    pub fn scratch(&mut self) -> Result<StepId, GraphError> {
        self.add("scratch", Op::Scratch, Vec::new())
    }

    /// The files of an image. The first image's configuration becomes that of the result, and its
    /// environment that of the commands run in its files.
    ///
    /// # Errors
    /// Never for steps of this builder.
    pub fn image(&mut self, image: &ResolvedImage) -> Result<StepId, GraphError> {
        if self.environments.is_empty() {
            self.config = image.config.clone();
        }
        let name = image.source.name.clone();
        let step = self.add(&name, Op::Image(image.source.clone()), Vec::new())?;
        let pair = |pair: &String| pair.split_once('=').map(|(k, v)| (k.into(), v.into()));
        let env = image.config.config.env.iter().filter_map(pair).collect();
        self.environments.insert(step, env);
        Ok(step)
    }

    /// The files of a directory of the machine, which the engine is given under `name`.
    ///
    /// # Errors
    /// Never for steps of this builder.
    pub fn context(&mut self, name: &str) -> Result<StepId, GraphError> {
        let source = ContextSource {
            name: name.to_owned(),
            ignore: Vec::new(),
        };
        self.add(name, Op::Context(source), Vec::new())
    }

    /// What a tree becomes when a command is run in it as root, with the host's network and the
    /// environment of the image below.
    ///
    /// # Errors
    /// When `root` is a step of another graph.
    pub fn run<I>(&mut self, root: StepId, args: I) -> Result<StepId, GraphError>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        let text = format!("run {}", args.join(" "));
        let exec = Exec {
            env: self.environments.get(&root).cloned().unwrap_or_default(),
            ..Exec::new(Input(0), args)
        };
        self.add(&text, Op::Exec(Box::new(exec)), vec![root])
    }

    /// What a tree becomes when files of another are copied into it, with their owners. `to`
    /// ending in `/` is a directory.
    ///
    /// # Errors
    /// When one of the steps is of another graph.
    pub fn copy(
        &mut self,
        onto: StepId,
        from: StepId,
        path: &str,
        to: &str,
    ) -> Result<StepId, GraphError> {
        let copy = CopyFiles {
            to_directory: to.ends_with('/'),
            ..CopyFiles::new(Input(1), path, ImagePath::new(to))
        };
        let text = format!("copy {path} {to}");
        self.files(&text, FileAction::Copy(Box::new(copy)), vec![onto, from])
    }

    /// What a tree becomes when a file is written into it, with mode 0644, as root's.
    ///
    /// # Errors
    /// When `onto` is a step of another graph.
    pub fn write(
        &mut self,
        onto: StepId,
        path: &str,
        content: impl Into<Vec<u8>>,
    ) -> Result<StepId, GraphError> {
        let dest = ImagePath::new(path);
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let write = FileAction::Write {
            dest,
            to_directory: false,
            name,
            content: content.into(),
            mode: 0o644,
            owner: None,
        };
        self.files(&format!("write {path}"), write, vec![onto])
    }

    /// What turns one tree into another: laid over another tree by [`GraphBuilder::merge`], it changes
    /// that in the same way.
    ///
    /// # Errors
    /// Never for steps of this builder.
    pub fn difference(&mut self, lower: StepId, upper: StepId) -> Result<StepId, GraphError> {
        let action = FileAction::Difference {
            lower: Input(0),
            upper: Input(1),
        };
        let files = Files {
            base: None,
            actions: vec![action],
        };
        self.add("difference", Op::Files(files), vec![lower, upper])
    }

    /// Trees stacked upon each other, lowest first, without copying.
    ///
    /// # Errors
    /// When one of the steps is of another graph.
    pub fn merge<I: IntoIterator<Item = StepId>>(
        &mut self,
        trees: I,
    ) -> Result<StepId, GraphError> {
        let trees: Vec<StepId> = trees.into_iter().collect();
        let layers = (0u32..).map(Input).take(trees.len()).collect();
        self.add("merge", Op::Merge { layers }, trees)
    }

    /// The configuration of the image, to be changed: its command, user, labels.
    pub fn config(&mut self) -> &mut ImageConfig {
        &mut self.config
    }

    /// The build of an image whose root is the tree of this step.
    #[must_use]
    pub fn build(self, root: StepId) -> Build {
        let target = Target {
            history: self.history(root),
            platform: self.platform,
            root,
            config: self.config,
        };
        Build {
            graph: self.graph,
            targets: vec![target],
            ..Build::default()
        }
    }

    fn files(
        &mut self,
        text: &str,
        action: FileAction,
        inputs: Vec<StepId>,
    ) -> Result<StepId, GraphError> {
        let files = Files {
            base: Some(Input(0)),
            actions: vec![action],
        };
        self.add(text, Op::Files(files), inputs)
    }

    fn add(&mut self, text: &str, op: Op, inputs: Vec<StepId>) -> Result<StepId, GraphError> {
        let below = inputs.first().copied();
        let step = Step::plain(text, op, self.platform.clone());
        let id = self.graph.add(step, inputs)?;
        if let Some(env) = below.and_then(|below| self.environments.get(&below).cloned()) {
            self.environments.insert(id, env);
        }
        Ok(id)
    }

    /// One line for each step that changes the image's files, lowest first.
    fn history(&self, root: StepId) -> Vec<HistoryLine> {
        let below = |id: &StepId| match self.graph.step(*id).op {
            Op::Exec(_) | Op::Files(_) | Op::Merge { .. } => {
                self.graph.inputs(*id).first().copied()
            }
            _ => None,
        };
        let steps = std::iter::successors(Some(root), below);
        let changes = steps.filter(|id| below(id).is_some());
        let mut lines: Vec<HistoryLine> = changes.map(|id| self.line(id)).collect();
        lines.reverse();
        lines
    }

    fn line(&self, id: StepId) -> HistoryLine {
        HistoryLine {
            created_by: self.graph.step(id).name.text.clone(),
            comment: String::new(),
            author: String::new(),
            layer: LayerOrigin::Step(id),
            created: None,
            layer_name: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_follows_the_tree_below() {
        let mut graph = GraphBuilder::new(Platform::host());
        let empty = graph.scratch().unwrap();
        let aside = graph.write(empty, "/aside", "x").unwrap();
        let first = graph.write(empty, "/a", "x").unwrap();
        let copied = graph.copy(first, aside, "/aside", "/d/").unwrap();
        let merged = graph.merge([copied, aside]).unwrap();
        let ran = graph.run(merged, ["true"]).unwrap();
        let build = graph.build(ran);
        let lines = build.targets[0].history.iter();
        let lines: Vec<&str> = lines.map(|line| line.created_by.as_str()).collect();
        assert_eq!(lines, ["write /a", "copy /aside /d/", "merge", "run true"]);
    }
}

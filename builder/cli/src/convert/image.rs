//! The image as `[images.NAME]`: what its configuration has that the base image's hasn't.

use std::collections::BTreeMap;

use kiln_graph::{HistoryLine, LayerOrigin, RunConfig, StepId, Target};

use super::text::{key, list, quote, table};

/// The image's keys, and what can't be said.
#[derive(Default)]
pub(super) struct Image {
    lines: Vec<(&'static str, String)>,
    pub(super) marks: Vec<String>,
}

impl Image {
    pub(super) fn of(target: &Target, base: &RunConfig) -> Self {
        let own = &target.config.config;
        let mut image = Self::default();
        image.commands(own, base);
        image.variables(own, base);
        let texts = [
            ("user", &own.user, &base.user),
            ("workdir", &own.working_dir, &base.working_dir),
            ("stop_signal", &own.stop_signal, &base.stop_signal),
        ];
        for (name, own, base) in texts {
            if own != base {
                image.add(name, quote(own));
            }
        }
        let new = own.exposed_ports.keys();
        let new = new.filter(|port| !base.exposed_ports.contains_key(*port));
        image.add_list("expose", new);
        let new = own.volumes.keys();
        let new = new.filter(|path| !base.volumes.contains_key(*path));
        image.add_list("volumes", new);
        image.healthcheck(own, base);
        image.rest(target, base);
        image
    }

    fn add(&mut self, key: &'static str, value: String) {
        self.lines.push((key, value));
    }

    fn add_list<'t>(&mut self, key: &'static str, texts: impl Iterator<Item = &'t String>) {
        let texts: Vec<&String> = texts.collect();
        if !texts.is_empty() {
            self.add(key, list(texts));
        }
    }

    fn mark(&mut self, text: &str) {
        self.marks.push(text.to_owned());
    }

    fn commands(&mut self, own: &RunConfig, base: &RunConfig) {
        let mut kept = base.cmd.as_ref();
        match &own.entrypoint {
            Some(words) if Some(words) != base.entrypoint.as_ref() => {
                self.add("entrypoint", list(words));
                kept = None;
            }
            None if base.entrypoint.is_some() => self.mark("the entrypoint can't be taken away"),
            _ => {}
        }
        match &own.cmd {
            Some(words) if Some(words) != kept => self.add("cmd", list(words)),
            None if kept.is_some() => {
                let words = own.entrypoint.clone().unwrap_or_default();
                self.add("entrypoint", list(words));
            }
            _ => {}
        }
    }

    fn variables(&mut self, own: &RunConfig, base: &RunConfig) {
        let new = own.env.iter().filter(|pair| !base.env.contains(pair));
        let new = new.filter_map(|pair| pair.split_once('='));
        let env: Vec<_> = new
            .map(|(name, value)| (name.to_owned(), quote(value)))
            .collect();
        if !env.is_empty() {
            self.add("env", table(&env));
        }
        let new = own.labels.iter();
        let new = new.filter(|(name, value)| base.labels.get(*name) != Some(*value));
        let labels: Vec<_> = new
            .map(|(name, value)| (name.clone(), quote(value)))
            .collect();
        if !labels.is_empty() {
            self.add("labels", table(&labels));
        }
    }

    fn healthcheck(&mut self, own: &RunConfig, base: &RunConfig) {
        let Some(check) = &own.healthcheck else {
            return;
        };
        if own.healthcheck == base.healthcheck {
            return;
        }
        let run = match check.test.split_first() {
            Some((kind, [text])) if kind == "CMD-SHELL" => quote(text),
            Some((kind, words)) if kind == "CMD" => list(words),
            _ => return self.mark("HEALTHCHECK NONE isn't in the language"),
        };
        let mut pairs = vec![("run".to_owned(), run)];
        let times = [
            ("interval", check.interval),
            ("timeout", check.timeout),
            ("start_period", check.start_period),
            ("start_interval", check.start_interval),
        ];
        for (name, nanoseconds) in times {
            match nanoseconds {
                0 => {}
                time if time % 1_000_000_000 == 0 => {
                    pairs.push((
                        name.to_owned(),
                        quote(&format!("{}s", time / 1_000_000_000)),
                    ));
                }
                time if time % 1_000_000 == 0 => {
                    pairs.push((name.to_owned(), quote(&format!("{}ms", time / 1_000_000))));
                }
                _ => self.mark("a health check's times are in whole milliseconds"),
            }
        }
        if check.retries != 0 {
            pairs.push(("retries".to_owned(), check.retries.to_string()));
        }
        self.add("healthcheck", table(&pairs));
    }

    fn rest(&mut self, target: &Target, base: &RunConfig) {
        let own = &target.config.config;
        if own.shell != base.shell {
            self.mark("SHELL isn't stored in the image; the steps name their shell");
        }
        if own.on_build != base.on_build {
            self.mark("ONBUILD isn't in the language");
        }
        if !target.config.author.is_empty() {
            self.mark("MAINTAINER isn't in the language: use a label");
        }
    }

    pub(super) fn write(&self, name: &str, from: &str, out: &mut String) {
        out.push('\n');
        for mark in &self.marks {
            out.push_str(&format!("# by hand: {mark}\n"));
        }
        out.push_str(&format!("[images.{name}]\nfrom = {}\n", quote(from)));
        for (key, value) in &self.lines {
            out.push_str(&format!("{key} = {value}\n"));
        }
    }
}

/// `# layer:` directives: steps that follow each other and are one layer.
pub(super) fn layers(
    image: &str,
    history: &[HistoryLine],
    names: &BTreeMap<StepId, String>,
    out: &mut String,
) {
    let mut groups: Vec<(&str, Vec<&String>)> = Vec::new();
    for line in history {
        let (Some(layer), LayerOrigin::Step(id)) = (&line.layer_name, line.layer) else {
            continue;
        };
        let Some(step) = names.get(&id) else { continue };
        match groups.last_mut() {
            Some((last, steps)) if last == layer => {
                if !steps.contains(&step) {
                    steps.push(step);
                }
            }
            _ => groups.push((layer, vec![step])),
        }
    }
    for (layer, steps) in groups {
        let (image, name, steps) = (key(image), quote(layer), list(steps));
        out.push_str(&format!(
            "\n[[images.{image}.layers]]\nname = {name}\nsteps = {steps}\n"
        ));
    }
}

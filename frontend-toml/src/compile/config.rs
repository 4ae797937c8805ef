//! How a container of an image runs: the base image's configuration, and what the image changes.

use std::time::Duration;

use kiln_graph::{Empty, Healthcheck, ImageConfig};

use super::command::in_order;
use super::compiler::View;
use crate::error::Wrong;
use crate::model::{self, Image, Port, Run};
use crate::text::Text;
use crate::time;

pub(super) fn configure(
    image: &Image,
    mut whole: ImageConfig,
    view: &View<'_>,
) -> Result<ImageConfig, Wrong> {
    let config = &mut whole.config;
    for (name, value) in in_order(&image.env) {
        let start = format!("{name}=");
        config.env.retain(|pair| !pair.starts_with(&start));
        config.env.push(start + &view.fill(value)?);
    }
    for (name, value) in &image.labels {
        config.labels.insert(name.to_string(), view.fill(value)?);
    }
    if let Some(words) = &image.entrypoint {
        config.entrypoint = Some(view.fill_all(words)?);
        // The base image's arguments are for its own program.
        config.cmd = None;
    }
    if let Some(words) = &image.cmd {
        config.cmd = Some(view.fill_all(words)?);
    }
    let texts = [
        (&image.user, &mut config.user),
        (&image.workdir, &mut config.working_dir),
        (&image.stop_signal, &mut config.stop_signal),
    ];
    for (text, field) in texts {
        if let Some(text) = view.fill_some(text.as_ref())? {
            *field = text;
        }
    }
    for own in &image.expose {
        let text = Port::text(own);
        config.exposed_ports.insert(port(&text, view)?, Empty {});
    }
    for volume in &image.volumes {
        config.volumes.insert(view.fill(volume)?, Empty {});
    }
    if let Some(check) = &image.healthcheck {
        config.healthcheck = Some(healthcheck(check, view)?);
    }
    Ok(whole)
}

/// `8080` or `53/udp`.
fn port(text: &Text, view: &View<'_>) -> Result<String, Wrong> {
    let filled = view.fill(text)?;
    let (number, kind) = filled.split_once('/').unwrap_or((&filled, "tcp"));
    match (number.parse::<u16>(), kind) {
        (Ok(1..), "tcp" | "udp" | "sctp") => Ok(format!("{number}/{kind}")),
        _ => {
            let message = format!("'{filled}' is no port: write it as 8080 or 53/udp");
            Err(Wrong::at(&text.span, message))
        }
    }
}

fn healthcheck(check: &model::Healthcheck, view: &View<'_>) -> Result<Healthcheck, Wrong> {
    let (kind, words) = match &check.run {
        Run::Shell(text) => ("CMD-SHELL", vec![view.fill(text)?]),
        Run::Words(words) => ("CMD", view.fill_all(words)?),
    };
    let mut test = vec![kind.to_owned()];
    test.extend(words);
    Ok(Healthcheck {
        test,
        interval: nanoseconds(check.interval.as_ref())?,
        timeout: nanoseconds(check.timeout.as_ref())?,
        start_period: nanoseconds(check.start_period.as_ref())?,
        start_interval: nanoseconds(check.start_interval.as_ref())?,
        retries: check.retries.map_or(0, i64::from),
    })
}

/// As the configuration has it; zero for what isn't given.
fn nanoseconds(text: Option<&Text>) -> Result<i64, Wrong> {
    let time = text.map(time::read).transpose()?;
    let nanoseconds = time.as_ref().map_or(0, Duration::as_nanos);
    Ok(i64::try_from(nanoseconds).unwrap_or(i64::MAX))
}

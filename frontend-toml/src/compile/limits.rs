//! What a command has and may use: host names, resource limits, memory to share, proxies. The
//! command line says it for all steps, the file for its own.

use std::collections::BTreeMap;

use kiln_graph::{PROXIES, ULIMITS};

use super::command::in_order;
use super::compiler::{Compiler, View};
use super::step::Work;
use crate::error::Wrong;
use crate::model::{Limit, Step};
use crate::suggest::did_you_mean;
use crate::text::{Name, Placed, Text};

impl Compiler<'_> {
    /// The command line's lines of `/etc/hosts`, then the step's.
    pub(super) fn hosts(&self, work: &Work<'_, '_>) -> Result<Vec<(String, String)>, Wrong> {
        let mut hosts = self.options.extra_hosts.clone();
        for (name, address) in in_order(&work.step.hosts) {
            let filled = work.view.fill(address)?;
            if filled.parse::<std::net::IpAddr>().is_err() {
                let message = format!("'{filled}' is no address: write it as 10.0.0.1 or fd00::1");
                return Err(Wrong::at(&address.span, message));
            }
            hosts.push((name.to_string(), filled));
        }
        Ok(hosts)
    }

    /// The step's limits over the command line's.
    pub(super) fn limits(&self, step: &Step) -> Result<BTreeMap<String, (u64, u64)>, Wrong> {
        let mut limits = self.options.ulimits.clone();
        for (name, limit) in &step.limits {
            limits.insert(known(name)?.to_owned(), pair(limit)?);
        }
        Ok(limits)
    }

    pub(super) fn shm_size(&self, work: &Work<'_, '_>) -> Result<Option<u64>, Wrong> {
        let own = work.step.shm_size.as_ref();
        let own = own.map(|text| size(text, work.view)).transpose()?;
        Ok(own.or(self.options.shm_size))
    }

    /// The proxies that the command line names.
    pub(super) fn proxies(&self) -> BTreeMap<String, String> {
        let given = self.options.params.iter();
        given
            .filter(|(name, _)| PROXIES.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

fn known(name: &Name) -> Result<&str, Wrong> {
    let text = name.as_str();
    if ULIMITS.contains(&text) {
        return Ok(text);
    }
    let hint = did_you_mean(text, ULIMITS.iter().copied());
    let message = format!(
        "there is no limit '{text}'{hint}; there are {}",
        ULIMITS.join(", ")
    );
    Err(Wrong::at(name.span(), message))
}

/// The soft and the hard limit.
fn pair(limit: &Placed<Limit>) -> Result<(u64, u64), Wrong> {
    let text = match &limit.value {
        Limit::Number(number) => return Ok((*number, *number)),
        Limit::Text(text) => text,
    };
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| match text {
        "unlimited" => Some(u64::MAX),
        text => text.parse().ok(),
    };
    match (number(soft), number(hard)) {
        (Some(soft), Some(hard)) if soft <= hard => Ok((soft, hard)),
        (Some(_), Some(_)) => {
            let message = format!("'{text}': the soft limit is over the hard one: write SOFT:HARD");
            Err(Wrong::at(&limit.span, message))
        }
        _ => {
            let message = format!("'{text}' is no limit: write a number, SOFT:HARD or unlimited");
            Err(Wrong::at(&limit.span, message))
        }
    }
}

/// A size in bytes.
pub(super) fn size(text: &Text, view: &View<'_>) -> Result<u64, Wrong> {
    let read = kiln_graph::parse_size(&view.fill(text)?);
    read.map_err(|message| Wrong::at(&text.span, message))
}

//! `--executor`: a cluster that steps run on.

use std::sync::Arc;

use clap::Args;
use kiln::Error;
#[cfg(feature = "reapi")]
use kiln::Fields;
#[cfg(feature = "reapi")]
use kiln_cluster::{ClusterExecutor, ExecutorSettings, IdsChoice, NetworkChoice, PlaceChoice};
use kiln_engine::Elsewhere;

/// The word for no cluster, where kiln.conf names one.
const LOCAL: &str = "local";

/// Where steps run.
#[derive(Args, Debug, Clone)]
pub(super) struct ExecutorArgs {
    /// Run steps on a cluster that speaks the Remote Execution API: grpcs://HOST:PORT, with
    /// instance=, property.NAME=, header.NAME=, ca=, cert=, key=, credential_helper=,
    /// network=worker|local, ids=same|all|one, queue=DURATION, outputs=remote|local,
    /// place=cheapest|cluster, jobs=N, race=DURATION and helper=FILE behind commas; or local
    #[arg(long, value_name = "SPEC", env = "KILN_EXECUTOR")]
    executor: Option<String>,
    /// Fail where the executor can't run a step, instead of running the step here
    #[arg(long)]
    executor_required: bool,
}

impl ExecutorArgs {
    /// What runs steps elsewhere, if the user wants that: as the flags say, else as kiln.conf does.
    pub(super) fn open(&self) -> Result<Option<Arc<dyn Elsewhere>>, Error> {
        let config = super::config()?;
        let (spec, place) = match (&self.executor, &config.executor) {
            (Some(spec), _) => (spec.clone(), "--executor"),
            (None, Some(spec)) => (spec.clone(), "kiln.conf, executor ="),
            (None, None) if self.executor_required => {
                let text = "--executor-required: there is no executor: give --executor";
                return Err(Error::Usage(text.to_owned()));
            }
            (None, None) => return Ok(None),
        };
        if spec == LOCAL {
            return Ok(None);
        }
        let required = self.executor_required || config.executor_required;
        let opened = open(&spec, required);
        opened
            .map(Some)
            .map_err(|reason| Error::Usage(format!("{place} {}: {reason}", address(&spec))))
    }
}

/// A spec without what may let somebody in.
fn address(spec: &str) -> &str {
    let word = spec.split(',').next().unwrap_or_default();
    if word.contains('=') { "SPEC" } else { word }
}

#[cfg(not(feature = "reapi"))]
fn open(_: &str, _: bool) -> Result<Arc<dyn Elsewhere>, String> {
    Err("this kiln was built without clusters: use a release, or build kiln with '--features reapi'".to_owned())
}

#[cfg(feature = "reapi")]
fn open(spec: &str, required: bool) -> Result<Arc<dyn Elsewhere>, String> {
    let settings = settings(spec, required)?;
    Ok(Arc::new(ClusterExecutor::new(settings)))
}

#[cfg(feature = "reapi")]
fn settings(spec: &str, required: bool) -> Result<ExecutorSettings, String> {
    let mut fields = Fields::parse(spec);
    let words = fields.take_words();
    let [url] = &words[..] else {
        return Err("begin with the server: grpcs://HOST:PORT,…".to_owned());
    };
    let server = super::cache_spec::reapi_server(url, &mut fields)?;
    let mut settings = ExecutorSettings::new(server);
    settings.required = required;
    settings.properties.extend(fields.take_prefixed(PROPERTY));
    settings.network = match fields.take("network").as_deref() {
        None | Some("worker") => NetworkChoice::Worker,
        Some("local") => NetworkChoice::Local,
        Some(other) => return Err(format!("network={other}: use worker or local")),
    };
    settings.ids = match fields.take("ids").as_deref() {
        None | Some("same") => IdsChoice::Same,
        Some("all") => IdsChoice::All,
        Some("one") => IdsChoice::One,
        Some(other) => return Err(format!("ids={other}: use same, all or one")),
    };
    if let Some(limit) = duration(&mut fields, "queue")? {
        settings.queue_limit = limit;
    }
    let helpers = fields.take_all("helper");
    settings.helpers = helpers.into_iter().map(Into::into).collect();
    settings.brings_outputs = match fields.take("outputs").as_deref() {
        None | Some("remote") => false,
        Some("local") => true,
        Some(other) => return Err(format!("outputs={other}: use remote or local")),
    };
    settings.place = match fields.take("place").as_deref() {
        None | Some("cheapest") => PlaceChoice::Cheapest,
        Some("cluster") => PlaceChoice::Cluster,
        Some(other) => return Err(format!("place={other}: use cheapest or cluster")),
    };
    if let Some(jobs) = fields.take("jobs") {
        settings.jobs = at_once(&jobs)?;
    }
    settings.race_after = duration(&mut fields, "race")?;
    fields.finish(&KEYS)?;
    Ok(settings)
}

/// The duration that a field says.
#[cfg(feature = "reapi")]
fn duration(fields: &mut Fields, name: &str) -> Result<Option<std::time::Duration>, String> {
    let parsed = fields
        .take(name)
        .map(|text| kiln_graph::parse_duration(&text));
    parsed
        .transpose()
        .map_err(|reason| format!("{name}: {reason}"))
}

/// More steps at once would only be threads that wait.
#[cfg(feature = "reapi")]
const MAX_JOBS: usize = 4096;

#[cfg(feature = "reapi")]
fn at_once(text: &str) -> Result<usize, String> {
    let jobs = text
        .parse()
        .ok()
        .filter(|jobs| (1..=MAX_JOBS).contains(jobs));
    jobs.ok_or_else(|| format!("jobs={text}: give a number from 1 to {MAX_JOBS}"))
}

/// What begins the names of platform properties.
#[cfg(feature = "reapi")]
const PROPERTY: &str = "property.";

#[cfg(feature = "reapi")]
const KEYS: [&str; 16] = [
    "instance",
    "property.NAME",
    "header.NAME",
    "header",
    "ca",
    "cert",
    "key",
    "credential_helper",
    "network",
    "ids",
    "queue",
    "outputs",
    "place",
    "jobs",
    "race",
    "helper",
];

#[cfg(all(test, feature = "reapi"))]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read() {
        let read = |text: &str| settings(text, false);
        let all = read("grpc://h:1,instance=main,property.pool=a,property.pool=b,network=local,ids=one,queue=5s,place=cluster,jobs=7,race=1m,helper=/k").unwrap();
        let pool = |value: &str| ("pool".to_owned(), value.to_owned());
        assert_eq!(all.server.to_string(), "grpc://h:1/main");
        assert_eq!(all.properties, [pool("a"), pool("b")]);
        assert_eq!(all.network, NetworkChoice::Local);
        assert_eq!(all.ids, IdsChoice::One);
        assert!(!all.required);
        assert_eq!(all.queue_limit.as_secs(), 5);
        assert_eq!(all.place, PlaceChoice::Cluster);
        assert_eq!(all.jobs, 7);
        assert_eq!(all.race_after.map(|after| after.as_secs()), Some(60));
        assert_eq!(all.helpers, [std::path::PathBuf::from("/k")]);
        for (text, reason) in [
            ("", "begin with the server"),
            ("instance=a", "begin with the server"),
            ("h:1", "grpc://HOST:PORT"),
            ("grpc://h:1,pool=a", "unknown key 'pool'"),
            ("grpc://h:1,network=all", "use worker or local"),
            ("grpc://h:1,ids=some", "use same, all or one"),
            ("grpc://h:1,outputs=there", "use remote or local"),
            ("grpc://h:1,queue=soon", "queue"),
            ("grpc://h:1,place=here", "use cheapest or cluster"),
            ("grpc://h:1,jobs=0", "from 1 to 4096"),
            ("grpc://h:1,jobs=many", "from 1 to 4096"),
            ("grpc://h:1,race=late", "race"),
            ("grpc://h:1,cert=c", "go together"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        assert_eq!(
            address("grpcs://h,header.authorization=secret"),
            "grpcs://h"
        );
        assert_eq!(address("header.authorization=secret"), "SPEC");
    }
}

//! One build by its reference, which ties `Control.Solve`, `Status` and the bridge's calls together.

mod frontend;
mod stop_on_drop;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kiln::Journal;
use kiln_engine::{Cancel, CancelHook};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::build::{Kept, SourcePolicy};
use crate::connection::ConnectionId;
use crate::container::Containers;
use crate::progress::StatusLog;
use crate::proto::SolveRequest;
use crate::proto::frontend::ReturnRequest;
use crate::result_ref::new_id;
use crate::session::{Decisions, session_id};

pub(crate) use frontend::{Bound, FrontendImage};
pub(crate) use stop_on_drop::StopOnDrop;

/// How long the bridge's calls wait for their build, and `Status` does.
const BRIDGE_PATIENCE: Duration = Duration::from_secs(3);
const STATUS_PATIENCE: Duration = Duration::from_secs(6);
/// Status messages of this many finished builds are kept.
const MAX_FINISHED: usize = 16;
/// How long a result is kept for builds that are made from it, when its own has ended.
const RESULT_AGE: Duration = Duration::from_secs(120);

/// One build.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its reference, chosen by the client.
    pub(crate) reference: String,
    /// What was asked for.
    pub(crate) request: SolveRequest,
    /// The rules about sources that came with it.
    pub(crate) rules: SourcePolicy,
    /// What the client's policy said of sources.
    pub(crate) decisions: Arc<Decisions>,
    /// The connection that it was asked by, and its bridge is called by.
    connection: ConnectionId,
    /// When it began.
    pub(crate) begun: SystemTime,
    pub(crate) log: Arc<StatusLog>,
    /// Stops its steps.
    pub(crate) cancel: Cancel,
    /// A frontend's is cancelled with its build's, not the other way round.
    _following: Option<CancelHook>,
    /// Is cancelled with it.
    pub(crate) cancelled: CancellationToken,
    /// The containers that its client has made.
    pub(crate) containers: Containers,
    /// The image that is its frontend, when the server runs one for it.
    pub(crate) frontend: Option<FrontendImage>,
    returned: Mutex<Option<oneshot::Sender<ReturnRequest>>>,
    /// What is remembered of what was solved for it.
    journals: Arc<Mutex<Vec<Arc<Journal>>>>,
}

impl Job {
    /// Whether the client runs the frontend and returns the result by the bridge.
    pub(crate) fn is_of_the_client(&self) -> bool {
        let known = &self.request.known;
        known.frontend.is_empty() && known.definition.is_none()
    }

    /// Whether its bridge may be called by a connection.
    fn is_bridged_to(&self, connection: ConnectionId) -> bool {
        self.is_of_the_client() && self.connection == connection
    }

    /// The sessions that it names: whoever knows them can ask for what is in them.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &str> {
        let known = &self.request.known;
        let own = [&known.session, &known.source_policy_session];
        let directories = known.frontend_attrs.iter();
        let directories = directories.filter(|(key, _)| key.starts_with("local-sessionid:"));
        let all = own.into_iter().chain(directories.map(|(_, value)| value));
        all.map(|id| session_id(id)).filter(|id| !id.is_empty())
    }

    /// Takes a journal, to be filed when the build ends.
    pub(crate) fn remember(&self, journal: Arc<Journal>) {
        let mut journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        journals.push(journal);
    }

    /// Files the journals: the build has ended, with this error.
    pub(crate) fn file_journals(&self, error: Option<&str>) {
        let mut journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        for journal in std::mem::take(&mut *journals) {
            journal.finish(error.map(str::to_owned));
        }
    }

    /// Hands the client's result over; once.
    pub(crate) fn give_back(&self, result: ReturnRequest) -> Result<(), Status> {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = returned.take();
        let given = waiting.and_then(|waiting| waiting.send(result).ok());
        given.ok_or_else(|| Status::unknown("the build has its result already"))
    }

    /// Stops the build.
    pub(crate) fn stop(&self) {
        self.cancelled.cancel();
        self.containers.end();
        // Hooks may wait for what they end.
        let cancel = self.cancel.clone();
        tokio::task::spawn_blocking(move || cancel.cancel());
    }
}

/// All builds.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    state: Mutex<State>,
    /// Goes up when a build begins or ends.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<String, Arc<Job>>,
    finished: VecDeque<(String, Arc<StatusLog>)>,
    /// Results by name, with the builds they are of.
    refs: HashMap<String, (Kept, String)>,
    /// Builds whose results are still kept, by when they ended.
    kept: VecDeque<(Instant, String)>,
}

impl State {
    fn status(&self, reference: &str) -> Option<Arc<StatusLog>> {
        let open = self.open.get(reference).map(|job| job.log.clone());
        let mut finished = self.finished.iter();
        open.or_else(|| {
            let found = finished.find(|(name, _)| name == reference);
            found.map(|(_, log)| log.clone())
        })
    }

    /// Forgets results that nobody will ask for any more.
    fn expire(&mut self) {
        while self
            .kept
            .front()
            .is_some_and(|(at, _)| at.elapsed() > RESULT_AGE)
        {
            if let Some((_, job)) = self.kept.pop_front() {
                self.refs.retain(|_, (_, owner)| *owner != job);
            }
        }
    }
}

impl Jobs {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a build, which ends when the guard is dropped.
    pub(crate) fn begin(
        self: &Arc<Self>,
        request: SolveRequest,
        rules: SourcePolicy,
        connection: ConnectionId,
    ) -> Result<(Open, oneshot::Receiver<ReturnRequest>), Status> {
        let reference = request.known.r#ref.clone();
        if reference.is_empty() {
            return Err(Status::invalid_argument("a build needs a ref"));
        }
        let (sender, returned) = oneshot::channel();
        let job = Arc::new(Job {
            reference: reference.clone(),
            request,
            rules,
            decisions: Arc::default(),
            connection,
            begun: SystemTime::now(),
            log: Arc::default(),
            cancel: Cancel::new(),
            _following: None,
            cancelled: CancellationToken::new(),
            containers: Containers::default(),
            frontend: None,
            returned: Mutex::new(Some(sender)),
            journals: Arc::default(),
        });
        let mut state = self.lock();
        state.expire();
        if state.open.contains_key(&reference) {
            return Err(Status::already_exists(format!("job ID {reference} exists")));
        }
        state.open.insert(reference, job.clone());
        drop(state);
        self.changed.send_modify(|version| *version += 1);
        let jobs = self.clone();
        Ok((Open { jobs, job }, returned))
    }

    async fn wait<T>(&self, patience: Duration, find: impl Fn(&State) -> Option<T>) -> Option<T> {
        let mut changes = self.changed.subscribe();
        let end = tokio::time::Instant::now() + patience;
        loop {
            changes.borrow_and_update();
            if let Some(found) = find(&self.lock()) {
                return Some(found);
            }
            tokio::time::timeout_at(end, changes.changed())
                .await
                .ok()?
                .ok()?;
        }
    }

    /// The build that a call of the bridge's by a connection belongs to, which may come a little later. Those
    /// of other connections aren't there for it.
    pub(crate) async fn open(
        &self,
        reference: &str,
        connection: ConnectionId,
    ) -> Result<Arc<Job>, Status> {
        let find = |state: &State| {
            let job = state.open.get(reference);
            job.filter(|job| job.is_bridged_to(connection)).cloned()
        };
        let found = self.wait(BRIDGE_PATIENCE, find).await;
        found.ok_or_else(|| Status::unknown(format!("no such job {reference}")))
    }

    /// The builds that are running.
    pub(crate) fn running(&self) -> Vec<Arc<Job>> {
        self.lock().open.values().cloned().collect()
    }

    /// The status messages of a build that is running, or ended a short while ago.
    pub(crate) fn known_status(&self, reference: &str) -> Option<Arc<StatusLog>> {
        self.lock().status(reference)
    }

    /// The status messages of a build, which may come a little later.
    pub(crate) async fn status(
        self: Arc<Self>,
        reference: String,
    ) -> Result<Arc<StatusLog>, Status> {
        let find = |state: &State| state.status(&reference);
        let found = self.wait(STATUS_PATIENCE, find).await;
        found.ok_or_else(|| Status::unknown(format!("no such job {reference}")))
    }

    /// Keeps a result under a name.
    pub(crate) fn keep(&self, job: &Job, result: Kept) -> Result<String, Status> {
        let id = new_id()?;
        let owner = job.reference.clone();
        self.lock().refs.insert(id.clone(), (result, owner));
        Ok(id)
    }

    /// Forgets the results of builds that have ended: what they hold in the store may go. While a build
    /// runs it may be made from one of them.
    pub(crate) fn forget_ended(&self) {
        let mut state = self.lock();
        if state.open.is_empty() {
            state.refs.clear();
        }
    }

    /// The result of a name.
    pub(crate) fn result(&self, id: &str) -> Result<Kept, Status> {
        let mut state = self.lock();
        state.expire();
        let found = state.refs.get(id).map(|(result, _)| result.clone());
        found.ok_or_else(|| Status::unknown(format!("no such ref: {id}")))
    }

    /// Stops all builds.
    pub(crate) fn stop(&self) {
        let open: Vec<_> = self.lock().open.values().cloned().collect();
        for job in open {
            job.stop();
        }
    }

    /// Waits until no build is running.
    pub(crate) async fn ended(&self, patience: Duration) {
        let find = |state: &State| state.open.is_empty().then_some(());
        _ = self.wait(patience, find).await;
    }
}

/// A build that is running.
#[derive(Debug)]
pub(crate) struct Open {
    jobs: Arc<Jobs>,
    pub(crate) job: Arc<Job>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let (reference, log) = (self.job.reference.clone(), self.job.log.clone());
        log.close();
        self.job.containers.end();
        let mut state = self.jobs.lock();
        state.open.remove(&reference);
        state.kept.push_back((Instant::now(), reference.clone()));
        // `Status` may be called when the build has ended.
        state.finished.push_back((reference, log));
        if state.finished.len() > MAX_FINISHED {
            state.finished.pop_front();
        }
        drop(state);
        self.jobs.changed.send_modify(|version| *version += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::pb::Definition;

    fn request(reference: &str) -> SolveRequest {
        let mut request = SolveRequest::default();
        request.known.r#ref = reference.to_owned();
        request.known.internal = true;
        request
    }

    #[tokio::test]
    async fn calls_may_come_before_their_build_and_after_it() {
        let jobs = Arc::new(Jobs::default());
        let connection = ConnectionId::next();
        let early = tokio::spawn(jobs.clone().status("a".to_owned()));
        tokio::task::yield_now().await;
        let (open, _returned) = jobs
            .begin(request("a"), SourcePolicy::default(), connection)
            .unwrap();
        assert!(early.await.unwrap().is_ok());
        assert!(
            jobs.begin(request("a"), SourcePolicy::default(), connection)
                .is_err()
        );
        assert!(jobs.open("a", connection).await.is_ok());
        drop(open);
        // A client whose build was short asks when it has ended.
        assert!(jobs.clone().status("a".to_owned()).await.is_ok());
        let error = jobs.open("a", connection).await.unwrap_err();
        assert!(error.message().contains("no such job a"));
        assert!(
            jobs.begin(request(""), SourcePolicy::default(), connection)
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_bridge_is_called_by_its_own_connection_and_only_where_the_client_solves() {
        let jobs = Arc::new(Jobs::default());
        let (own, other) = (ConnectionId::next(), ConnectionId::next());
        let (_of_the_client, _returned) = jobs
            .begin(request("a"), SourcePolicy::default(), own)
            .unwrap();
        let mut of_a_frontend = request("b");
        of_a_frontend.known.frontend = "dockerfile.v0".to_owned();
        let (_of_a_frontend, _returned) = jobs
            .begin(of_a_frontend, SourcePolicy::default(), own)
            .unwrap();
        let mut of_a_definition = request("c");
        of_a_definition.known.definition = Some(Definition {
            def: vec![Vec::new()],
            ..Default::default()
        });
        let (_of_a_definition, _returned) = jobs
            .begin(of_a_definition, SourcePolicy::default(), own)
            .unwrap();
        let asked = [
            ("a", own, true),
            ("a", other, false),
            ("b", own, false),
            ("c", own, false),
        ];
        // Each is waited for.
        let opened = asked.map(|(reference, connection, may)| {
            let jobs = jobs.clone();
            let open = async move { jobs.open(reference, connection).await.is_ok() };
            (tokio::spawn(open), reference, may)
        });
        for (open, reference, may) in opened {
            assert_eq!(open.await.unwrap(), may, "{reference}");
        }
    }
}

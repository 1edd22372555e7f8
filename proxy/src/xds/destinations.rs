//! What workers know of the mesh: destinations by name, and the inbound side of this workload.
//!
//! Reading takes no lock. A name that is not known yet is asked for through [`Feed`], whose other end the
//! xDS client holds; tests hold it themselves.

#[cfg(test)]
mod tests;

use super::{dump, held::Held, status::Status};
use crate::{
    admission::Admission,
    error::RequestError,
    snapshot::{
        Destination, DestinationHandle, Inbound, InboundPort, MtlsMode, Protocol, WorkloadName,
        admission::Limits,
    },
};
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use weft_xds_proto::resource::ResourceType;

/// What workers know of the mesh. Cheap to clone; all clones see the same.
#[derive(Debug, Clone)]
pub struct Destinations(Arc<Shared>);

/// The answer to a name.
#[derive(Debug, Clone)]
pub enum Resolution {
    /// The mesh knows it. Keep the handle for as long as the connection lives: a destination whose handle
    /// somebody holds is not forgotten. Do not keep it longer.
    Known(Arc<DestinationHandle>),
    /// The control plane says that there is no such destination.
    Unknown,
}

/// The other end of [`Destinations`]: receives the names that are asked for, and publishes answers.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    wanted: mpsc::UnboundedReceiver<Arc<str>>,
}

#[derive(Debug)]
struct Shared {
    table: ArcSwap<Table>,
    inbound: ArcSwap<Inbound>,
    admission: Admission,
    ready: watch::Sender<bool>,
    waiting: Mutex<HashMap<Arc<str>, watch::Sender<Option<Answer>>>>,
    wanted: mpsc::UnboundedSender<Arc<str>>,
    held: Arc<Mutex<Held>>,
    status: Mutex<Status>,
    timeout: Duration,
    epoch: Instant,
}

type Table = HashMap<Arc<str>, Entry>;

type Answer = Result<Resolution, RequestError>;

#[derive(Debug, Clone)]
enum Entry {
    Known(Arc<DestinationHandle>),
    Unknown {
        /// The second, since `Shared.epoch`, in which it was last asked for.
        asked: Arc<AtomicU64>,
        /// The handle that connections hold from when it was known: it serves again if it comes back.
        last: Weak<DestinationHandle>,
    },
}

/// Names without a destination that are remembered. Beyond, those not asked for the longest go: an
/// application that scans ports must not make the proxy hold a subscription for each.
const MAX_UNKNOWN: usize = 1024;

impl Destinations {
    /// Nothing is known yet. `own_inbound` is the name of this workload's inbound listener, `timeout` is how
    /// long [`Destinations::resolve`] waits for the control plane.
    pub fn new(own_inbound: Arc<str>, timeout: Duration) -> (Self, Feed) {
        let (wanted, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            table: ArcSwap::default(),
            inbound: ArcSwap::from_pointee(before_the_first_push()),
            admission: Admission::default(),
            ready: watch::Sender::new(false),
            waiting: Mutex::default(),
            wanted,
            held: Arc::new(Mutex::new(Held::new(own_inbound))),
            status: Mutex::new(Status::new(Instant::now())),
            timeout,
            epoch: Instant::now(),
        });
        let feed = Feed {
            shared: shared.clone(),
            wanted: receiver,
        };
        (Self(shared), feed)
    }

    /// The destination of a name, if it is known here and now.
    pub fn get(&self, name: &str) -> Option<Arc<DestinationHandle>> {
        match self.0.table.load().get(name)? {
            Entry::Known(handle) => Some(handle.clone()),
            Entry::Unknown { .. } => None,
        }
    }

    /// The destination of a name: an authority (`user.demo.svc.cluster.local:80`) or an address
    /// (`10.96.3.4:80`). Asks the control plane when it is not known here; whoever asks for the same name
    /// meanwhile waits for the same answer.
    ///
    /// Errors with [`RequestError::ConfigUnavailable`] when there is no complete answer in time, or none that
    /// is valid.
    pub async fn resolve(&self, name: &str) -> Result<Resolution, RequestError> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        let mut answer = {
            let mut waiting = self.0.waiting();
            // It may have come between the look and the lock.
            if let Some(known) = self.known(name) {
                return Ok(known);
            }
            match waiting.get(name) {
                Some(sender) => sender.subscribe(),
                None => {
                    let name: Arc<str> = name.into();
                    let (sender, receiver) = watch::channel(None);
                    waiting.insert(name.clone(), sender);
                    // Without a client there is no answer either: the timeout below says so.
                    let _ = self.0.wanted.send(name);
                    receiver
                }
            }
        };
        let answered = tokio::time::timeout(self.0.timeout, answer.wait_for(Option::is_some)).await;
        match answered {
            Ok(Ok(answer)) => answer.clone().expect("waited until there is some"),
            Ok(Err(_)) | Err(_) => Err(RequestError::ConfigUnavailable),
        }
    }

    /// The inbound side. Until the control plane has sent it every port takes mutual TLS only.
    pub fn inbound(&self) -> Arc<Inbound> {
        self.0.inbound.load_full()
    }

    /// The limits of the inbound side in force.
    pub(crate) fn admission(&self) -> &Admission {
        &self.0.admission
    }

    /// Whether the inbound configuration has been received.
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// Waits until the inbound configuration has been received.
    pub async fn ready(&self) {
        let mut ready = self.0.ready.subscribe();
        ready
            .wait_for(|ready| *ready)
            .await
            .expect("the sender lives as long as self");
    }

    /// Every resource followed, with its version, value and error, for `/config_dump`. Not for workers: it
    /// waits for the xDS client and takes a while.
    pub fn dump(&self) -> serde_json::Value {
        let status = self.status();
        dump::dump(&self.0.held(), &status, Instant::now())
    }

    /// How the connection to the control plane fares. Not for workers either.
    pub fn status(&self) -> Status {
        let mut status = Status::clone(&self.0.status());
        let held = self.0.held();
        for ty in ResourceType::ALL {
            status.types[ty as usize].held = held.count(ty);
        }
        status
    }

    fn known(&self, name: &str) -> Option<Resolution> {
        match self.0.table.load().get(name)? {
            Entry::Known(handle) => Some(Resolution::Known(handle.clone())),
            Entry::Unknown { asked, .. } => {
                asked.store(self.0.epoch.elapsed().as_secs(), Ordering::Relaxed);
                Some(Resolution::Unknown)
            }
        }
    }
}

impl Feed {
    /// The next name that somebody asked for and that is not known. `None` when every [`Destinations`] is gone.
    pub async fn wanted(&mut self) -> Option<Arc<str>> {
        self.wanted.recv().await
    }

    /// Publishes a destination: new for those who wait for it, changed for those who hold its handle.
    pub fn publish(&self, destination: Destination) {
        let name = destination.name.clone();
        let table = self.shared.table.load();
        let handle = match table.get(&name) {
            Some(Entry::Known(handle)) => {
                handle.store(destination);
                return;
            }
            Some(Entry::Unknown { last, .. }) => last.upgrade(),
            None => None,
        };
        let handle = match handle {
            Some(handle) => {
                handle.store(destination);
                handle
            }
            None => Arc::new(DestinationHandle::new(destination)),
        };
        let mut table = Table::clone(&table);
        table.insert(name.clone(), Entry::Known(handle.clone()));
        self.shared.table.store(Arc::new(table));
        self.answer(&name, Ok(Resolution::Known(handle)));
    }

    /// Publishes that there is no such destination, or no longer. Connections that hold its handle are left
    /// with `rest`: what they can still do, which is to fail for want of an endpoint.
    pub fn unknown(&self, name: &Arc<str>, rest: Option<Destination>) {
        let mut table = Table::clone(&self.shared.table.load());
        let last = match table.get(name) {
            Some(Entry::Unknown { .. }) => return,
            Some(Entry::Known(handle)) => {
                if let Some(rest) = rest {
                    handle.store(rest);
                }
                Arc::downgrade(handle)
            }
            None => Weak::new(),
        };
        let asked = Arc::new(AtomicU64::new(self.shared.epoch.elapsed().as_secs()));
        table.insert(name.clone(), Entry::Unknown { asked, last });
        self.shared.table.store(Arc::new(table));
        self.answer(name, Ok(Resolution::Unknown));
    }

    /// Tells those who wait for a name that there will be no valid answer for now.
    pub fn unavailable(&self, name: &Arc<str>) {
        self.answer(name, Err(RequestError::ConfigUnavailable));
    }

    /// Publishes the inbound side.
    pub fn inbound(&self, inbound: Inbound) {
        self.shared.admission.configure(&inbound);
        self.shared.inbound.store(Arc::new(inbound));
        self.shared.ready.send_replace(true);
    }

    /// Forgets the names that nobody has used for `limit` and whose handle nobody holds, and returns them:
    /// they need no subscription any more.
    pub fn forget_idle(&self, limit: Duration, now: Instant) -> Vec<Arc<str>> {
        let mut forgotten = self.abandoned();
        let mut unknown: Vec<(u64, Arc<str>)> = Vec::new();
        let table = self.shared.table.load_full();
        for (name, entry) in table.iter() {
            match entry {
                // One is the table's own.
                Entry::Known(handle) => {
                    if handle.idle(now) >= limit && Arc::strong_count(handle) == 1 {
                        forgotten.push(name.clone());
                    }
                }
                Entry::Unknown { asked, .. } => {
                    unknown.push((asked.load(Ordering::Relaxed), name.clone()));
                }
            }
        }
        unknown.sort_unstable();
        let surplus = unknown.len().saturating_sub(MAX_UNKNOWN);
        let now = now.saturating_duration_since(self.shared.epoch).as_secs();
        let idle = |asked: u64| now.saturating_sub(asked) >= limit.as_secs();
        forgotten.extend(
            unknown
                .into_iter()
                .enumerate()
                .filter(|(position, (asked, _))| *position < surplus || idle(*asked))
                .map(|(_, (_, name))| name),
        );
        if forgotten.is_empty() {
            return forgotten;
        }
        let mut table = Table::clone(&table);
        for name in &forgotten {
            table.remove(name);
        }
        self.shared.table.store(Arc::new(table));
        forgotten
    }

    /// The names that are asked for without an answer yet, and that nobody waits for any more.
    fn abandoned(&self) -> Vec<Arc<str>> {
        let mut waiting = self.shared.waiting();
        let abandoned: Vec<Arc<str>> = waiting
            .iter()
            .filter(|(_, sender)| sender.receiver_count() == 0)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &abandoned {
            waiting.remove(name);
        }
        abandoned
    }

    /// The resources held, which `/config_dump` shows.
    pub(super) fn held(&self) -> &Arc<Mutex<Held>> {
        &self.shared.held
    }

    /// Notes how the connection fares.
    pub(super) fn status<T>(&self, note: impl FnOnce(&mut Status) -> T) -> T {
        note(&mut self.shared.status())
    }

    /// After the table says the same, so that nobody misses both.
    fn answer(&self, name: &Arc<str>, answer: Answer) {
        if let Some(sender) = self.shared.waiting().remove(name) {
            sender.send_replace(Some(answer));
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Arc<str>, watch::Sender<Option<Answer>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody has said who may call this workload yet: mutual TLS only.
fn before_the_first_push() -> Inbound {
    Inbound {
        workload: WorkloadName::unknown(),
        zone: "".into(),
        ports: BTreeMap::new(),
        other: InboundPort {
            protocol: Protocol::Detect,
            mtls: MtlsMode::Strict,
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Some(Duration::from_secs(300)),
            limits: Limits::default(),
        },
    }
}

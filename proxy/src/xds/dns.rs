//! Hosts outside of the mesh: their addresses, asked of DNS, and asked again when the answer is out of date.
//!
//! One task per host, on the control runtime. An answer stays in force until the next one: a name server that fails
//! takes nothing away. That a host does not exist (NXDOMAIN), or has no address, is an answer too.

use crate::{
    snapshot::{Endpoint, WorkloadName},
    tls::backoff::Backoff,
};
use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::AbortHandle};

/// A TTL is kept within these: one of zero must not become a flood, nor one of a week outlive a move.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Between attempts while name servers fail.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_CAP: Duration = Duration::from_secs(30);

/// A host and port that DNS knows the addresses of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// The name, or an address as text.
    pub name: Arc<str>,
    /// The port at every address.
    pub port: u16,
    /// Which addresses count.
    pub family: Family,
}

/// Which addresses of a host count (`Cluster.dns_lookup_family`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `V4_ONLY`.
    V4,
    /// `V6_ONLY`.
    V6,
    /// `V4_PREFERRED`: IPv6 where there is no IPv4.
    V4Preferred,
    /// `AUTO`: IPv4 where there is no IPv6.
    V6Preferred,
    /// `ALL`.
    Both,
}

/// What DNS says of a host.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) host: Host,
    pub(super) endpoints: Arc<[Arc<Endpoint>]>,
}

/// The hosts that are followed.
#[derive(Debug)]
pub(super) struct Dns {
    /// The name servers; those of the system (`/etc/resolv.conf`) when absent.
    servers: Option<ResolverConfig>,
    followed: BTreeMap<Host, AbortHandle>,
    answers: mpsc::UnboundedReceiver<Answer>,
    answered: mpsc::UnboundedSender<Answer>,
}

impl Dns {
    /// Follows nothing yet, and reads nothing: most proxies never need DNS.
    pub(super) fn new(servers: Option<ResolverConfig>) -> Self {
        let (answered, answers) = mpsc::unbounded_channel();
        Self {
            servers,
            followed: BTreeMap::new(),
            answers,
            answered,
        }
    }

    /// Follows exactly these from now on.
    pub(super) fn follow(&mut self, wanted: &BTreeSet<Host>) {
        self.followed.retain(|host, task| {
            let keep = wanted.contains(host);
            if !keep {
                task.abort();
            }
            keep
        });
        for host in wanted {
            if !self.followed.contains_key(host) {
                let watched = watch(host.clone(), self.servers.clone(), self.answered.clone());
                let task = tokio::spawn(watched).abort_handle();
                self.followed.insert(host.clone(), task);
            }
        }
    }

    /// The next answer for a host that is followed. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Answer {
        loop {
            let answer = self.answers.recv().await;
            let answer = answer.expect("this holds a sender itself");
            if self.followed.contains_key(&answer.host) {
                return answer;
            }
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        for task in self.followed.values() {
            task.abort();
        }
    }
}

/// Asks for as long as somebody listens.
async fn watch(
    host: Host,
    servers: Option<ResolverConfig>,
    answered: mpsc::UnboundedSender<Answer>,
) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_CAP);
    let mut known = false;
    loop {
        let asked = match resolver(host.family, servers.clone()) {
            Ok(resolver) => ask(&resolver, &host.name).await,
            Err(error) => Err(error),
        };
        let (addresses, again_in) = match asked {
            Ok((addresses, ttl)) => {
                backoff.reset();
                (Some(addresses), ttl.clamp(*TTL.start(), *TTL.end()))
            }
            Err(error) => {
                let retry_in = backoff.delay(fastrand::f64());
                tracing::warn!(%host, %error, ?retry_in, "a host is not resolved, what is known of it stays in force");
                // Whoever waits for a first answer is told that there is nowhere to go.
                ((!known).then(Vec::new), retry_in)
            }
        };
        if let Some(addresses) = addresses {
            known = true;
            let answer = Answer {
                endpoints: addresses
                    .iter()
                    .map(|ip| endpoint(*ip, host.port))
                    .collect(),
                host: host.clone(),
            };
            if answered.send(answer).is_err() {
                return;
            }
        }
        tokio::time::sleep(again_in).await;
    }
}

/// Made anew for every question, as the name servers of the system may change.
fn resolver(family: Family, servers: Option<ResolverConfig>) -> Result<TokioResolver, NetError> {
    let mut builder = match servers {
        Some(servers) => {
            TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
        }
        None => TokioResolver::builder_tokio()?,
    };
    let options = builder.options_mut();
    options.ip_strategy = match family {
        Family::V4 => LookupIpStrategy::Ipv4Only,
        Family::V6 => LookupIpStrategy::Ipv6Only,
        Family::V4Preferred => LookupIpStrategy::Ipv4thenIpv6,
        Family::V6Preferred => LookupIpStrategy::Ipv6thenIpv4,
        Family::Both => LookupIpStrategy::Ipv4AndIpv6,
    };
    options.cache_size = 0;
    builder.build()
}

/// The addresses of a host in order, and how long they hold.
async fn ask(resolver: &TokioResolver, name: &str) -> Result<(Vec<IpAddr>, Duration), NetError> {
    match resolver.lookup_ip(name).await {
        Ok(found) => {
            let ttl = found
                .valid_until()
                .saturating_duration_since(Instant::now());
            let addresses: BTreeSet<_> = found.iter().collect();
            Ok((addresses.into_iter().collect(), ttl))
        }
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
            Ok((Vec::new(), RETRY_CAP))
        }
        Err(error) => Err(error),
    }
}

/// Outside of the mesh: nothing is known of it but where it is.
fn endpoint(ip: IpAddr, port: u16) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: SocketAddr::new(ip.to_canonical(), port),
        identity: None,
        workload: WorkloadName::unknown(),
        weight: NonZeroU32::MIN,
        zone: "".into(),
    })
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

#[cfg(test)]
mod tests;

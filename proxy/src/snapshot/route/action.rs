//! What becomes of a request that a route matches.

use super::{HashPolicy, HeaderChange, HeaderChanges};
use crate::snapshot::{Cluster, Retry, Share, pattern::Substitution};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, uri::Authority};
use std::{num::NonZeroU16, sync::Arc, time::Duration};

/// What becomes of a request. `C` is a cluster, or the name of one as long as they are not put together.
#[derive(Debug, Clone, PartialEq)]
pub enum Action<C = Arc<Cluster>> {
    /// It goes to a backend (`RouteAction`).
    Forward(Forward<C>),
    /// The caller is sent elsewhere (`RedirectAction`).
    Redirect(Arc<Redirect>),
    /// The proxy answers (`DirectResponseAction`).
    Respond(Arc<Respond>),
}

/// How a request is forwarded.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward<C = Arc<Cluster>> {
    /// Where to.
    pub backends: Backends<C>,
    /// A cluster that does not exist is an error of the configuration (`cluster_not_found_response_code` of 500), and
    /// not merely one without endpoints.
    pub absent_is_error: bool,
    /// From the end of the request to the end of the response (`timeout`); `None` never ends. Default 15 s.
    pub timeout: Option<Duration>,
    /// The longest that a gRPC call may take, whatever its caller says (`max_stream_duration.grpc_timeout_header_max`);
    /// `None` leaves that to the caller.
    pub grpc_timeout_max: Option<Duration>,
    /// What is tried again. Absent: only what provably was not processed, once.
    pub retry: Option<Arc<Retry>>,
    /// What a consistent hash goes by; without any, chance.
    pub hash: Arc<[HashPolicy]>,
    /// What the path becomes. Absent: it stays.
    pub path: Option<PathRewrite>,
    /// Who else gets the request.
    pub mirrors: Arc<[Mirror<C>]>,
}

/// The clusters of a route, at least one of them with a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Backends<C = Arc<Cluster>> {
    all: Vec<Backend<C>>,
    total: u64,
}

/// A cluster that serves its share of the requests (`WeightedCluster.ClusterWeight`).
#[derive(Debug, Clone, PartialEq)]
pub struct Backend<C = Arc<Cluster>> {
    /// Which.
    pub cluster: C,
    /// Its part of the sum of the weights.
    pub weight: u32,
    /// There is no such cluster, and that is an error of the configuration.
    pub absent: bool,
    /// The host that it is called by. Absent: the one that the caller named.
    pub host: Option<HostRewrite>,
    /// Changes to header fields.
    pub headers: HeaderChanges,
}

/// What a path becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// What the route matched of it is replaced (`prefix_rewrite`).
    Prefix(Arc<str>),
    /// All of it is replaced (`path_rewrite`, `path_redirect`).
    Full(Arc<str>),
    /// Matches in it are replaced (`regex_rewrite`).
    Regex(Substitution),
}

/// What a host becomes, in the two forms that a request may have it (`host_rewrite_literal`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRewrite {
    /// As the value of `Host`.
    pub field: HeaderValue,
    /// As a part of the target.
    pub authority: Authority,
}

/// Who gets a copy of the request, and what of it (`RequestMirrorPolicy`).
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror<C = Arc<Cluster>> {
    /// Where it goes.
    pub cluster: C,
    /// How many of the requests.
    pub share: Share,
    /// By which host it calls.
    pub host: MirrorHost,
    /// Changes to header fields, after those of the request itself.
    pub headers: Arc<[HeaderChange]>,
}

/// By which host a mirrored request calls.
#[derive(Debug, Clone, PartialEq)]
pub enum MirrorHost {
    /// The one of the request with `-shadow` after its name, as Envoy has it.
    Shadow,
    /// The one of the request (`disable_shadow_host_suffix_append`).
    Same,
    /// This one (`host_rewrite_literal`).
    Other(HostRewrite),
}

/// Where a caller is sent instead. What is absent stays as the caller has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The scheme.
    pub scheme: Option<Box<str>>,
    /// The host, without a port.
    pub host: Option<Box<str>>,
    /// The port. Absent: that of the scheme where a host or a scheme is named, else the one that the caller has.
    pub port: Option<NonZeroU16>,
    /// The path. One with a query of its own replaces that of the request.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Whether the query is left out.
    pub strip_query: bool,
    /// Changes to the fields of the response.
    pub headers: Arc<[HeaderChange]>,
}

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// Its status.
    pub status: StatusCode,
    /// Its body, which may be empty.
    pub body: Bytes,
    /// Changes to the fields of the response.
    pub headers: Arc<[HeaderChange]>,
}

impl<C> Action<C> {
    /// The clusters that it refers to.
    pub fn clusters(&self) -> impl Iterator<Item = &C> {
        let forward = match self {
            Self::Forward(forward) => Some(forward),
            Self::Redirect(_) | Self::Respond(_) => None,
        };
        forward.into_iter().flat_map(|forward| {
            let backends = forward.backends.all.iter().map(|backend| &backend.cluster);
            backends.chain(forward.mirrors.iter().map(|mirror| &mirror.cluster))
        })
    }

    /// The same with other clusters in the place of these.
    pub fn try_map<D, E>(
        &self,
        mut cluster: impl FnMut(&C) -> Result<D, E>,
    ) -> Result<Action<D>, E> {
        Ok(match self {
            Self::Forward(forward) => Action::Forward(forward.try_map(&mut cluster)?),
            Self::Redirect(redirect) => Action::Redirect(redirect.clone()),
            Self::Respond(respond) => Action::Respond(respond.clone()),
        })
    }
}

impl<C> Forward<C> {
    /// To one cluster, with the default of every setting.
    pub fn to(cluster: C) -> Self {
        Self {
            backends: Backends::only(Backend::new(cluster)),
            absent_is_error: false,
            timeout: Some(Duration::from_secs(15)),
            grpc_timeout_max: None,
            retry: None,
            hash: Arc::default(),
            path: None,
            mirrors: Arc::default(),
        }
    }

    fn try_map<D, E>(&self, cluster: &mut impl FnMut(&C) -> Result<D, E>) -> Result<Forward<D>, E> {
        Ok(Forward {
            backends: self.backends.try_map(cluster)?,
            absent_is_error: self.absent_is_error,
            timeout: self.timeout,
            grpc_timeout_max: self.grpc_timeout_max,
            retry: self.retry.clone(),
            hash: self.hash.clone(),
            path: self.path.clone(),
            mirrors: self
                .mirrors
                .iter()
                .map(|mirror| {
                    Ok(Mirror {
                        cluster: cluster(&mirror.cluster)?,
                        share: mirror.share,
                        host: mirror.host.clone(),
                        headers: mirror.headers.clone(),
                    })
                })
                .collect::<Result<_, E>>()?,
        })
    }
}

impl<C> Backends<C> {
    /// These, unless none of them has a weight.
    pub fn new(all: Vec<Backend<C>>) -> Option<Self> {
        let total = all.iter().map(|backend| u64::from(backend.weight)).sum();
        (total > 0).then_some(Self { all, total })
    }

    /// One for all requests.
    pub fn only(backend: Backend<C>) -> Self {
        Self {
            all: vec![Backend {
                weight: 1,
                ..backend
            }],
            total: 1,
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Backend<C>] {
        &self.all
    }

    /// Notes of which there is no such cluster.
    pub fn mark_absent(&mut self, is_absent: impl Fn(&C) -> bool) {
        for backend in &mut self.all {
            backend.absent = is_absent(&backend.cluster);
        }
    }

    /// The place of the one that a request goes to: by its weight, if there is a choice.
    pub fn pick(&self, random: impl FnOnce() -> u64) -> usize {
        if self.all.len() == 1 {
            return 0;
        }
        // Multiply-shift (Lemire): weights are below 2^32 each, so the bias is too small to be seen.
        let mut picked = ((u128::from(random()) * u128::from(self.total)) >> 64) as u64;
        let mut last = 0;
        for (position, backend) in self.all.iter().enumerate() {
            let weight = u64::from(backend.weight);
            if picked < weight {
                return position;
            }
            picked -= weight;
            last = position;
        }
        last
    }

    fn try_map<D, E>(
        &self,
        cluster: &mut impl FnMut(&C) -> Result<D, E>,
    ) -> Result<Backends<D>, E> {
        let all = self.all.iter().map(|backend| {
            Ok(Backend {
                cluster: cluster(&backend.cluster)?,
                weight: backend.weight,
                absent: backend.absent,
                host: backend.host.clone(),
                headers: backend.headers.clone(),
            })
        });
        Ok(Backends {
            all: all.collect::<Result<_, E>>()?,
            total: self.total,
        })
    }
}

impl<C> Backend<C> {
    /// A cluster by which nothing of the request changes.
    pub fn new(cluster: C) -> Self {
        Self {
            cluster,
            weight: 1,
            absent: false,
            host: None,
            headers: HeaderChanges::default(),
        }
    }
}

impl HostRewrite {
    /// `None` when it is no host, with or without port.
    pub fn new(host: &str) -> Option<Self> {
        Some(Self {
            field: HeaderValue::from_str(host).ok()?,
            authority: Authority::try_from(host)
                .ok()
                .filter(|_| !host.contains('@'))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backends(weights: &[u32]) -> Option<Backends<()>> {
        let all = weights.iter().map(|&weight| Backend {
            weight,
            ..Backend::new(())
        });
        Backends::new(all.collect())
    }

    #[test]
    fn backends_without_any_weight_are_none() {
        assert_eq!(backends(&[]), None);
        assert_eq!(backends(&[0, 0]), None);
    }

    #[test]
    fn one_backend_is_picked_without_chance() {
        let only = Backends::only(Backend::new(()));
        assert_eq!(only.pick(|| panic!("there is no choice")), 0);
    }

    proptest! {
        #[test]
        fn every_backend_gets_its_share_of_all_random_numbers(
            weights in proptest::collection::vec(0..100_u32, 1..6),
        ) {
            let Some(backends) = backends(&weights) else { return Ok(()) };
            const STEPS: u64 = 10_000;
            let mut picked = vec![0_u64; weights.len()];
            for step in 0..STEPS {
                picked[backends.pick(|| step * (u64::MAX / STEPS))] += 1;
            }
            for (picked, weight) in picked.iter().zip(&weights) {
                let expected = STEPS * u64::from(*weight) / backends.total;
                prop_assert!(picked.abs_diff(expected) <= 2, "{:?} {:?}", picked, weights);
                prop_assert!(*weight > 0 || *picked == 0);
            }
        }

        #[test]
        fn no_random_number_picks_a_backend_without_weight(
            weights in proptest::collection::vec(0..=u32::MAX, 2..6),
            random: u64,
        ) {
            if let Some(backends) = backends(&weights) {
                prop_assert!(weights[backends.pick(|| random)] > 0);
            }
        }
    }

    #[test]
    fn a_host_is_a_name_with_or_without_port() {
        for host in ["user", "user.demo:80", "[fd00::1]:80"] {
            assert_eq!(HostRewrite::new(host).unwrap().authority, host);
        }
        for other in ["", "a b", "a/b", "me@user"] {
            assert_eq!(HostRewrite::new(other), None, "{other}");
        }
    }
}

//! Requests that go to a backend, as `RouteAction` has it.

use super::{
    super::{
        dialect::Form,
        proto::{duration, fraction, limit, number},
    },
    change,
    entry::Entry,
    retry,
};
use crate::world::{
    policy::{HashKey, Retry},
    quantity::Share,
};
use envoy_types::pb::envoy::config::{
    core::v3::RuntimeFractionalPercent,
    route::v3::{
        RouteAction, WeightedCluster,
        route_action::{
            ClusterNotFoundResponseCode, ClusterSpecifier, HashPolicy, MaxStreamDuration,
            RequestMirrorPolicy,
            hash_policy::{ConnectionProperties, Cookie, Header, PolicySpecifier, QueryParameter},
        },
        weighted_cluster::ClusterWeight,
    },
};
use std::time::Duration;

/// The cluster of backends that do not exist or may not be named. There is none of this name, so that their share of
/// the requests is answered with what is said of clusters that are not found.
const NOBODY: &str = "unresolved-backend";

pub(super) fn action(entry: &Entry, form: Form, retry: Option<&Retry>) -> RouteAction {
    let action = RouteAction {
        cluster_specifier: Some(clusters(entry)),
        cluster_not_found_response_code: not_found(entry).into(),
        timeout: limit(entry.requests.timeout),
        retry_policy: retry.and_then(|policy| retry::policy(policy, form)),
        hash_policy: entry
            .hash
            .iter()
            .filter_map(|key| hash_policy(key, form))
            .collect(),
        ..RouteAction::default()
    };
    let action = grpc_limit(action, entry.requests.grpc_timeout_max, form);
    if form == Form::Grpc {
        return action;
    }
    let mirrors = entry.mirrors.iter();
    RouteAction {
        idle_timeout: limit(entry.requests.idle_timeout),
        request_mirror_policies: mirrors
            .map(|(cluster, share)| mirror(cluster, *share))
            .collect(),
        ..change::rewrite(action, entry.filters(), entry.matched())
    }
}

/// Up to how long a gRPC call may take that says how long it does; zero is for as long as it says.
///
/// For Envoy this stands where it was of old: beside the message that took its place, Envoy passes over
/// `RouteAction.timeout`, for calls of every kind.
#[expect(
    deprecated,
    reason = "Envoy counts RouteAction.timeout beside this field only"
)]
fn grpc_limit(action: RouteAction, max: Option<Duration>, form: Form) -> RouteAction {
    if form == Form::Envoy {
        return RouteAction {
            max_grpc_timeout: limit(max),
            ..action
        };
    }
    RouteAction {
        max_stream_duration: max.map(|max| MaxStreamDuration {
            grpc_timeout_header_max: limit(Some(max)),
            ..MaxStreamDuration::default()
        }),
        ..action
    }
}

fn clusters(entry: &Entry) -> ClusterSpecifier {
    if let ([(cluster, _)], 0) = (&*entry.backends, entry.unresolved) {
        return ClusterSpecifier::Cluster(cluster.to_string());
    }
    let unresolved = (entry.unresolved > 0).then_some((NOBODY, entry.unresolved));
    let resolved = entry
        .backends
        .iter()
        .map(|(name, weight)| (&**name, *weight));
    ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters: resolved
            .chain(unresolved)
            .map(|(name, weight)| ClusterWeight {
                name: name.to_owned(),
                weight: number(weight),
                ..ClusterWeight::default()
            })
            .collect(),
        ..WeightedCluster::default()
    })
}

/// What their share is answered with (`HTTPRouteRule.backendRefs`). A cluster that goes is another matter.
fn not_found(entry: &Entry) -> ClusterNotFoundResponseCode {
    if entry.unresolved > 0 {
        ClusterNotFoundResponseCode::InternalServerError
    } else {
        ClusterNotFoundResponseCode::ServiceUnavailable
    }
}

/// gRPC clients hash headers only (gRFC A42).
fn hash_policy(key: &HashKey, form: Form) -> Option<HashPolicy> {
    let specifier = match key {
        HashKey::Header(name) => PolicySpecifier::Header(Header {
            header_name: name.to_string(),
            ..Header::default()
        }),
        _ if form == Form::Grpc => return None,
        HashKey::Cookie { name, ttl, path } => PolicySpecifier::Cookie(Cookie {
            name: name.to_string(),
            ttl: ttl.map(duration),
            path: path.as_deref().unwrap_or_default().to_owned(),
            ..Cookie::default()
        }),
        HashKey::QueryParameter(name) => PolicySpecifier::QueryParameter(QueryParameter {
            name: name.to_string(),
        }),
        HashKey::SourceAddress => {
            PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
        }
    };
    Some(HashPolicy {
        policy_specifier: Some(specifier),
        ..HashPolicy::default()
    })
}

fn mirror(cluster: &str, share: Share) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: cluster.to_owned(),
        runtime_fraction: Some(RuntimeFractionalPercent {
            default_value: Some(fraction(share)),
            ..RuntimeFractionalPercent::default()
        }),
        // A copy is a copy: the backend is called by the host that it is called by without the mirror.
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    }
}

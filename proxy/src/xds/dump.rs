//! The resources held as JSON, for `/config_dump`.

mod breaker;
mod limits;
mod retry;
mod route;

use super::{
    convert::{
        ClusterConfig, Listener,
        cluster::EndpointSource,
        listener::{Outbound, RouteSource},
    },
    held::{Held, Slot, Slots, Value as State},
    status::Status,
};
use crate::{
    snapshot::{Endpoint, Inbound, InboundPort, LoadBalancer, cluster::Zone},
    tls::Roots,
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use weft_xds_proto::resource::ResourceType;

/// Everything: the connection, and per type each resource with its name, version, state and value.
pub(super) fn dump(held: &Held, status: &Status, now: Instant) -> Value {
    json!({
        "control_plane": connection(status, now),
        "listeners": slots(&held.listeners, listener),
        "routes": slots(&held.routes, |value| route::routes(value)),
        "clusters": slots(&held.clusters, cluster),
        "endpoints": slots(&held.endpoints, endpoints),
        "hosts": hosts(held),
        "secrets": slots(&held.secrets, roots),
    })
}

/// What DNS says of the hosts that clusters name; null before its first answer.
fn hosts(held: &Held) -> Value {
    let answers = held.hosts.iter().map(|(host, answer)| {
        let answer = answer.as_ref().map(endpoints);
        (host.to_string(), json!(answer))
    });
    answers.collect::<serde_json::Map<_, _>>().into()
}

fn connection(status: &Status, now: Instant) -> Value {
    let ago = |then: Instant| now.saturating_duration_since(then).as_secs_f64();
    let types = ResourceType::ALL
        .into_iter()
        .map(|ty| (ty.label().to_owned(), json!(status.types[ty as usize])))
        .collect::<serde_json::Map<_, _>>();
    json!({
        "connected_to": status.connected_to,
        "since_seconds": ago(status.since),
        "last_message_seconds": status.last_message.map(ago),
        "config_age_seconds": status.age(now).as_secs_f64(),
        "connections": status.connections,
        "last_error": status.last_error,
        "resources": types,
    })
}

fn slots<T>(slots: &Slots<T>, value: impl Fn(&T) -> Value) -> Value {
    slots
        .iter()
        .map(|(name, held)| slot(name, held, &value))
        .collect()
}

fn slot<T>(name: &str, slot: &Slot<T>, value: impl Fn(&T) -> Value) -> Value {
    let state = match &slot.value {
        State::Awaited => "awaited",
        State::Absent => "absent",
        State::Held(_) => "held",
    };
    json!({
        "name": name,
        "state": state,
        "version": slot.version,
        "updated": slot.updated.map(timestamp),
        "refused": slot.refused.as_ref().map(|refused| json!({
            "version": refused.version,
            "reason": refused.reason.to_string(),
        })),
        "value": slot.held().map(value),
    })
}

fn listener(listener: &Listener) -> Value {
    match listener {
        Listener::Outbound(listener) => outbound(listener),
        Listener::Inbound(listener) => inbound(listener),
    }
}

fn outbound(listener: &Outbound) -> Value {
    json!({
        "protocol": format!("{:?}", listener.protocol),
        "routes": listener.routes.as_ref().map(|source| match source {
            RouteSource::Named(name) => json!(name.as_ref()),
            RouteSource::Inline(inline) => route::routes(inline),
        }),
        "tcp_cluster": listener.tcp.as_deref(),
        "stream_idle_timeout": timeout(listener.stream_idle_timeout),
    })
}

fn inbound(inbound: &Inbound) -> Value {
    let ports = inbound
        .ports
        .iter()
        .map(|(number, settings)| (number.to_string(), port(settings)))
        .collect::<serde_json::Map<_, _>>();
    json!({
        "workload": inbound.workload.name.as_ref(),
        "namespace": inbound.workload.namespace.as_ref(),
        "zone": inbound.zone.as_ref(),
        "ports": ports,
        "other": port(&inbound.other),
    })
}

fn port(port: &InboundPort) -> Value {
    json!({
        "protocol": format!("{:?}", port.protocol),
        "mtls": format!("{:?}", port.mtls),
        "connect_timeout": seconds(port.connect_timeout),
        "idle_timeout": timeout(port.idle_timeout),
        "limits": limits::limits(&port.limits),
    })
}

fn cluster(cluster: &Arc<ClusterConfig>) -> Value {
    let settings = &cluster.settings;
    json!({
        "service": settings.service.as_ref(),
        "namespace": settings.namespace.as_ref(),
        "load_balancer": match settings.load_balancer {
            LoadBalancer::RoundRobin => json!("RoundRobin"),
            LoadBalancer::LeastRequest => json!("LeastRequest"),
            LoadBalancer::Random => json!("Random"),
            LoadBalancer::RingHash { minimum_size, maximum_size, bounded_load } => json!({
                "RingHash": {
                    "minimum_size": minimum_size,
                    "maximum_size": maximum_size,
                    "bounded_load_percent": bounded_load,
                },
            }),
            LoadBalancer::Maglev { table_size, bounded_load } => json!({
                "Maglev": { "table_size": table_size, "bounded_load_percent": bounded_load },
            }),
            LoadBalancer::PeakEwma { decay, default_rtt } => json!({
                "PeakEwma": { "decay": seconds(decay), "default_rtt": seconds(default_rtt) },
            }),
        },
        "connect_timeout": seconds(settings.connect_timeout),
        "idle_timeout": seconds(settings.idle_timeout),
        "max_requests_per_connection": settings.max_requests_per_connection,
        "tcp_keepalive": {
            "time": seconds(settings.tcp_keepalive.time),
            "interval": seconds(settings.tcp_keepalive.interval),
            "probes": settings.tcp_keepalive.probes,
        },
        "http2": {
            "concurrent_streams": settings.http2.concurrent_streams,
            "stream_window": settings.http2.stream_window,
            "connection_window": settings.http2.connection_window,
        },
        "slow_start": settings.slow_start.as_ref().map(|slow_start| json!({
            "window": seconds(slow_start.window),
            "aggression": slow_start.aggression,
            "minimum": slow_start.minimum.as_f64(),
        })),
        "zone": match settings.zone {
            Zone::Off => "off",
            Zone::Prefer => "prefer",
            Zone::Strict => "strict",
        },
        "panic_threshold": settings.panic_threshold.as_f64(),
        "breaker": settings.breaker.as_deref().map(breaker::breaker),
        "retry_budget": {
            "ratio": settings.retry_budget.ratio.as_f64(),
            "floor": settings.retry_budget.floor,
        },
        "limits": {
            "connections": settings.limits.connections,
            "pending": settings.limits.pending,
            "requests": settings.limits.requests,
        },
        "http_version": format!("{:?}", settings.http_version),
        "endpoints": match &cluster.endpoints {
            EndpointSource::Named(name) => json!(name.as_ref()),
            EndpointSource::Inline(inline) => endpoints(inline),
            EndpointSource::Dns(host) => json!({ "dns": host.to_string() }),
        },
    })
}

fn endpoints(endpoints: &Arc<[Arc<Endpoint>]>) -> Value {
    endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "address": endpoint.address,
                "identity": endpoint.identity.as_ref().map(|id| id.as_str()),
                "workload": endpoint.workload.name.as_ref(),
                "namespace": endpoint.workload.namespace.as_ref(),
                "weight": endpoint.weight,
                "zone": endpoint.zone.as_ref(),
            })
        })
        .collect()
}

fn roots(roots: &Roots) -> Value {
    json!(roots.summaries())
}

/// Durations as protobuf's JSON has them: `1.5s`.
fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

fn timeout(timeout: Option<Duration>) -> Value {
    match timeout {
        Some(timeout) => json!(seconds(timeout)),
        None => json!("never"),
    }
}

fn timestamp(time: SystemTime) -> String {
    crate::tls::rfc3339(time)
}

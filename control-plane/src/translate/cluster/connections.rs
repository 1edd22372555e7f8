//! Connections to endpoints, as `Cluster` has them: how many, how long, and what they speak.

use super::{
    super::{
        dialect::Form,
        proto::{any, duration, limit_of, number, percent},
    },
    outlier,
};
use crate::world::{
    ConnectionPolicy, Limits, Protocol,
    policy::{Breaker, RetryBudget, TcpKeepalive, Transport},
};
use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            CircuitBreakers, Cluster, UpstreamConnectionOptions,
            circuit_breakers::{Thresholds, thresholds},
        },
        core::v3::{
            Http2ProtocolOptions, HttpProtocolOptions as CommonOptions, RoutingPriority,
            TcpKeepalive as TcpKeepaliveMessage,
        },
    },
    extensions::upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{
            ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
            explicit_http_config::ProtocolConfig,
        },
    },
};
use std::{num::NonZeroU32, time::Duration};

/// The key of [`HttpProtocolOptions`] in a cluster.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The cluster, as far as connections to its endpoints decide it.
pub(super) fn cluster(
    policy: &ConnectionPolicy,
    retry_budget: RetryBudget,
    breaker: Option<&Breaker>,
    protocol: Protocol,
    form: Form,
) -> Cluster {
    let options = match form {
        Form::Weft => weft_options(&policy.transport),
        Form::Envoy => envoy_options(&policy.transport, breaker, protocol),
        Form::Grpc => None,
    };
    Cluster {
        connect_timeout: Some(duration(policy.connect_timeout)),
        circuit_breakers: Some(circuit_breakers(policy.limits, retry_budget, form)),
        upstream_connection_options: policy
            .transport
            .tcp_keepalive
            .as_ref()
            .filter(|_| form != Form::Grpc)
            .map(keepalive),
        typed_extension_protocol_options: options
            .map(|options| (HTTP_OPTIONS.to_owned(), any(options)))
            .into_iter()
            .collect(),
        ..Cluster::default()
    }
}

fn circuit_breakers(limits: Limits, budget: RetryBudget, form: Form) -> CircuitBreakers {
    CircuitBreakers {
        thresholds: vec![Thresholds {
            priority: RoutingPriority::Default.into(),
            max_connections: limit_of(limits.connections),
            max_pending_requests: limit_of(limits.pending),
            max_requests: limit_of(limits.requests),
            retry_budget: (form != Form::Grpc).then(|| thresholds::RetryBudget {
                budget_percent: percent(budget.ratio),
                min_retry_concurrency: number(budget.floor),
                ..thresholds::RetryBudget::default()
            }),
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    }
}

fn keepalive(keepalive: &TcpKeepalive) -> UpstreamConnectionOptions {
    let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    UpstreamConnectionOptions {
        tcp_keepalive: Some(TcpKeepaliveMessage {
            keepalive_probes: limit_of(keepalive.probes),
            keepalive_time: number(seconds(keepalive.time)),
            keepalive_interval: number(seconds(keepalive.interval)),
        }),
        ..UpstreamConnectionOptions::default()
    }
}

/// A sidecar speaks what its caller spoke, and needs to be told no more than what a policy says.
fn weft_options(transport: &Transport) -> Option<HttpProtocolOptions> {
    has_http_settings(transport).then(|| HttpProtocolOptions {
        common_http_protocol_options: common_options(transport),
        upstream_protocol_options: Some(as_downstream(transport)),
        ..HttpProtocolOptions::default()
    })
}

/// HTTP/1.1 for `http`, which every server of it speaks; what the caller spoke where nothing is declared.
fn envoy_options(
    transport: &Transport,
    breaker: Option<&Breaker>,
    protocol: Protocol,
) -> Option<HttpProtocolOptions> {
    let explicit = |protocol| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(protocol),
        })
    };
    let upstream = match protocol {
        Protocol::Tcp => return None,
        Protocol::Http => explicit(ProtocolConfig::HttpProtocolOptions(Default::default())),
        Protocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2_options(
            transport,
        ))),
        Protocol::Undeclared => as_downstream(transport),
    };
    Some(HttpProtocolOptions {
        common_http_protocol_options: common_options(transport),
        upstream_protocol_options: Some(upstream),
        outlier_detection: breaker.and_then(|breaker| outlier::errors(&breaker.failures)),
        ..HttpProtocolOptions::default()
    })
}

fn as_downstream(transport: &Transport) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(Default::default()),
        http2_protocol_options: Some(http2_options(transport)),
        ..UseDownstreamHttpConfig::default()
    })
}

fn has_http_settings(transport: &Transport) -> bool {
    let tcp_only = Transport {
        tcp_keepalive: transport.tcp_keepalive.clone(),
        ..Transport::default()
    };
    *transport != tcp_only
}

fn common_options(transport: &Transport) -> Option<CommonOptions> {
    let options = CommonOptions {
        idle_timeout: transport.idle_timeout.map(duration),
        max_requests_per_connection: transport.requests_per_connection.and_then(limit_of),
        ..CommonOptions::default()
    };
    (options != CommonOptions::default()).then_some(options)
}

fn http2_options(transport: &Transport) -> Http2ProtocolOptions {
    let number = |value: Option<NonZeroU32>| value.and_then(limit_of);
    Http2ProtocolOptions {
        max_concurrent_streams: number(transport.http2.concurrent_streams),
        initial_stream_window_size: number(transport.http2.stream_window),
        initial_connection_window_size: number(transport.http2.connection_window),
        ..Http2ProtocolOptions::default()
    }
}

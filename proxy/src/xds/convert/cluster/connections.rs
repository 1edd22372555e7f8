//! How a cluster talks to its endpoints: `HttpProtocolOptions`, `circuit_breakers`, `upstream_connection_options`.

use super::super::field::{At, Fault, decode, non_zero, percent, positive};
use crate::snapshot::{
    Limits,
    cluster::{Http2, TcpKeepalive, UpstreamHttp},
    retry::RetryBudget,
};
use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};
use weft_xds_proto::envoy::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                circuit_breakers::{Thresholds, thresholds},
            },
            core::v3::{Http2ProtocolOptions, RoutingPriority},
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
    },
    google::protobuf::UInt32Value,
};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// RFC 9113 section 6.9.2 allows no larger window, section 6.5.2 no more streams.
const MOST: u32 = i32::MAX as u32;
/// RFC 9113 section 6.9.2: what every connection begins with.
const LEAST_WINDOW: u32 = 65_535;

/// What `HttpProtocolOptions` says, over what a cluster has without.
pub(super) struct Http {
    pub(super) version: UpstreamHttp,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_requests: Option<NonZeroU32>,
    pub(super) http2: Http2,
}

pub(super) fn http(cluster: &Cluster) -> Result<Http, Fault> {
    let options = cluster.typed_extension_protocol_options.get(HTTP_OPTIONS);
    let convert = || {
        let options: HttpProtocolOptions = options.map(decode).transpose()?.unwrap_or_default();
        let common = options.common_http_protocol_options.unwrap_or_default();
        let (version, http2) = protocol(options.upstream_protocol_options.as_ref())?;
        Ok(Http {
            version,
            http2,
            // Zero would be "never" to Envoy; connections that are kept for ever are what servers reset.
            idle_timeout: positive("idle_timeout", common.idle_timeout.as_ref())
                .at("common_http_protocol_options")?,
            // Zero is "any number" to Envoy as well.
            max_requests: common
                .max_requests_per_connection
                .and_then(|most| NonZeroU32::new(most.value)),
        })
    };
    convert().at(HTTP_OPTIONS)
}

fn protocol(options: Option<&UpstreamProtocolOptions>) -> Result<(UpstreamHttp, Http2), Fault> {
    const HTTP2: &str = "http2_protocol_options";
    let as_downstream = |http2: Option<&Http2ProtocolOptions>, at: &str| {
        let http2 = http2.map(http2_settings).transpose().at(HTTP2).at(at)?;
        Ok((UpstreamHttp::AsDownstream, http2.unwrap_or_default()))
    };
    match options {
        None => Ok((UpstreamHttp::AsDownstream, Http2::default())),
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => as_downstream(
            config.http2_protocol_options.as_ref(),
            "use_downstream_protocol_config",
        ),
        Some(UpstreamProtocolOptions::AutoConfig(config)) => {
            as_downstream(config.http2_protocol_options.as_ref(), "auto_config")
        }
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            let explicit = match &explicit.protocol_config {
                Some(ProtocolConfig::HttpProtocolOptions(_)) => {
                    Ok((UpstreamHttp::Http1, Http2::default()))
                }
                Some(ProtocolConfig::Http2ProtocolOptions(options)) => http2_settings(options)
                    .at(HTTP2)
                    .map(|http2| (UpstreamHttp::Http2, http2)),
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    Err(Fault::new("is not supported by this proxy").at("http3_protocol_options"))
                }
                None => Err(Fault::new("is required").at("protocol_config")),
            };
            explicit.at("explicit_http_config")
        }
    }
}

fn http2_settings(options: &Http2ProtocolOptions) -> Result<Http2, Fault> {
    Ok(Http2 {
        concurrent_streams: within(
            "max_concurrent_streams",
            options.max_concurrent_streams.as_ref(),
            1..=MOST,
        )?,
        stream_window: within(
            "initial_stream_window_size",
            options.initial_stream_window_size.as_ref(),
            LEAST_WINDOW..=MOST,
        )?,
        connection_window: within(
            "initial_connection_window_size",
            options.initial_connection_window_size.as_ref(),
            LEAST_WINDOW..=MOST,
        )?,
    })
}

fn within(
    field: &str,
    value: Option<&UInt32Value>,
    range: RangeInclusive<u32>,
) -> Result<Option<NonZeroU32>, Fault> {
    let Some(&UInt32Value { value }) = value else {
        return Ok(None);
    };
    let number = NonZeroU32::new(value).filter(|_| range.contains(&value));
    let (least, most) = range.into_inner();
    let fault = || Fault::new(format!("must be {least} to {most}, got {value}")).at(field);
    number.ok_or_else(fault).map(Some)
}

/// What the thresholds of priority DEFAULT say of limits and of the retry budget.
pub(super) fn thresholds(cluster: &Cluster) -> Result<(Limits, RetryBudget), Fault> {
    let thresholds = cluster.circuit_breakers.as_ref().and_then(|breakers| {
        let mut thresholds = breakers.thresholds.iter().enumerate();
        thresholds.find(|(_, thresholds)| thresholds.priority == RoutingPriority::Default as i32)
    });
    let Some((position, thresholds)) = thresholds else {
        return Ok((Limits::default(), RetryBudget::default()));
    };
    let convert = || {
        let budget = thresholds.retry_budget.as_ref();
        let budget = budget.map(retry_budget).transpose().at("retry_budget")?;
        Ok((limits(thresholds)?, budget.unwrap_or_default()))
    };
    convert().at(format_args!("circuit_breakers.thresholds[{position}]"))
}

fn limits(thresholds: &Thresholds) -> Result<Limits, Fault> {
    let default = Limits::default();
    let limit = |field, value: &Option<UInt32Value>, default| {
        Ok(non_zero(field, value.as_ref())?.unwrap_or(default))
    };
    Ok(Limits {
        connections: limit(
            "max_connections",
            &thresholds.max_connections,
            default.connections,
        )?,
        pending: limit(
            "max_pending_requests",
            &thresholds.max_pending_requests,
            default.pending,
        )?,
        requests: limit("max_requests", &thresholds.max_requests, default.requests)?,
    })
}

fn retry_budget(budget: &thresholds::RetryBudget) -> Result<RetryBudget, Fault> {
    let default = RetryBudget::default();
    let ratio = percent("budget_percent", budget.budget_percent.as_ref())?;
    let floor = budget.min_retry_concurrency.as_ref();
    Ok(RetryBudget {
        ratio: ratio.unwrap_or(default.ratio),
        floor: floor.map_or(default.floor, |floor| floor.value),
    })
}

/// `upstream_connection_options.tcp_keepalive`, over what every connection has.
pub(super) fn keepalive(cluster: &Cluster) -> Result<TcpKeepalive, Fault> {
    let default = TcpKeepalive::default();
    let options = cluster.upstream_connection_options.as_ref();
    let Some(options) = options.and_then(|options| options.tcp_keepalive.as_ref()) else {
        return Ok(default);
    };
    let convert = || {
        // tcp(7): the kernel takes no more seconds than 32767, and no more probes than 127.
        let seconds = |field, value: &Option<UInt32Value>, default| {
            let value = within(field, value.as_ref(), 1..=32_767)?;
            Ok(value.map_or(default, |value| Duration::from_secs(value.get().into())))
        };
        let probes = options.keepalive_probes.as_ref();
        let probes = within("keepalive_probes", probes, 1..=127)?;
        Ok(TcpKeepalive {
            time: seconds("keepalive_time", &options.keepalive_time, default.time)?,
            interval: seconds(
                "keepalive_interval",
                &options.keepalive_interval,
                default.interval,
            )?,
            probes: probes.unwrap_or(default.probes),
        })
    };
    convert().at("upstream_connection_options.tcp_keepalive")
}

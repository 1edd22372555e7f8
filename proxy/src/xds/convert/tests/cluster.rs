use super::{ads, any, number, own_metadata, seconds};
use crate::{
    snapshot::{
        Cluster as Settings, Limits, LoadBalancer, Share, cluster as settings,
        cluster::UpstreamHttp, retry as settings_of_retries,
    },
    xds::convert::cluster::{ClusterConfig, EndpointSource, convert},
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use weft_xds_proto::{
    envoy::{
        envoy::{
            config::{
                cluster::v3::{
                    CircuitBreakers, Cluster, LoadBalancingPolicy, UpstreamConnectionOptions,
                    circuit_breakers::{Thresholds, thresholds::RetryBudget},
                    cluster::{
                        ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig,
                        LbPolicy, TransportSocketMatch,
                    },
                    load_balancing_policy::Policy,
                },
                core::v3::{
                    Http2ProtocolOptions, HttpProtocolOptions as CommonOptions, RuntimeDouble,
                    TcpKeepalive, TransportSocket, TypedExtensionConfig,
                    transport_socket::ConfigType,
                },
            },
            extensions::{
                load_balancing_policies::{
                    client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin as Unknown,
                    common::v3::{ConsistentHashingLbConfig, SlowStartConfig},
                    least_request::v3::LeastRequest,
                    maglev::v3::Maglev,
                    random::v3::Random,
                    ring_hash::v3::RingHash,
                    round_robin::v3::RoundRobin,
                },
                transport_sockets::tls::v3::UpstreamTlsContext,
                upstreams::http::v3::{
                    HttpProtocolOptions,
                    http_protocol_options::{
                        ExplicitHttpConfig, UpstreamProtocolOptions,
                        explicit_http_config::ProtocolConfig,
                    },
                },
            },
            r#type::v3::Percent,
        },
        google::protobuf::UInt64Value,
    },
    weft::v1::{PeakEwma, ServiceMetadata, service_metadata::ZonePreference},
};

const NAME: &str = "user.demo.svc.cluster.local:80";

fn cluster() -> Cluster {
    Cluster {
        name: NAME.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: String::new(),
        }),
        metadata: own_metadata(&ServiceMetadata {
            service: "user".to_owned(),
            namespace: "demo".to_owned(),
            ..ServiceMetadata::default()
        }),
        ..Cluster::default()
    }
}

fn http2() -> Http2ProtocolOptions {
    Http2ProtocolOptions {
        max_concurrent_streams: number(10),
        initial_stream_window_size: number(65_535),
        initial_connection_window_size: number(1 << 20),
        ..Http2ProtocolOptions::default()
    }
}

fn percent(value: f64) -> Option<Percent> {
    Some(Percent { value })
}

fn wide(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

fn bounded(percent: u32) -> Option<ConsistentHashingLbConfig> {
    Some(ConsistentHashingLbConfig {
        hash_balance_factor: number(percent),
        ..ConsistentHashingLbConfig::default()
    })
}

fn converted(cluster: &Cluster) -> Arc<ClusterConfig> {
    convert(NAME, &any(cluster)).unwrap()
}

fn refused(cluster: &Cluster) -> String {
    convert(NAME, &any(cluster)).unwrap_err().to_string()
}

fn policies(policies: Vec<weft_xds_proto::envoy::google::protobuf::Any>) -> Cluster {
    Cluster {
        load_balancing_policy: Some(LoadBalancingPolicy {
            policies: policies
                .into_iter()
                .map(|config| Policy {
                    typed_extension_config: Some(TypedExtensionConfig {
                        name: "policy".to_owned(),
                        typed_config: Some(config),
                    }),
                })
                .collect(),
        }),
        ..cluster()
    }
}

fn http_options(options: &HttpProtocolOptions) -> Cluster {
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    Cluster {
        typed_extension_protocol_options: [(key.to_owned(), any(options))].into(),
        ..cluster()
    }
}

fn settings() -> Settings {
    Settings {
        service: "user".into(),
        namespace: "demo".into(),
        ..Settings::new(NAME.into())
    }
}

fn expected() -> ClusterConfig {
    ClusterConfig {
        settings: settings(),
        endpoints: EndpointSource::Named(NAME.into()),
    }
}

#[test]
fn absent_fields_have_the_documented_defaults() {
    assert_eq!(*converted(&cluster()), expected());
}

#[test]
fn every_field_is_taken() {
    let full = Cluster {
        connect_timeout: seconds(2),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: "other".to_owned(),
        }),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                max_connections: number(1),
                max_pending_requests: number(2),
                max_requests: number(3),
                retry_budget: Some(RetryBudget {
                    budget_percent: percent(12.5),
                    min_retry_concurrency: number(0),
                    ..RetryBudget::default()
                }),
                ..Thresholds::default()
            }],
            ..CircuitBreakers::default()
        }),
        metadata: own_metadata(&ServiceMetadata {
            zone_preference: ZonePreference::Prefer.into(),
            ..ServiceMetadata::default()
        }),
        common_lb_config: Some(CommonLbConfig {
            healthy_panic_threshold: percent(0.0),
            ..CommonLbConfig::default()
        }),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_time: number(30),
                keepalive_interval: None,
                keepalive_probes: number(2),
            }),
            ..UpstreamConnectionOptions::default()
        }),
        ..http_options(&HttpProtocolOptions {
            common_http_protocol_options: Some(CommonOptions {
                idle_timeout: seconds(7),
                max_requests_per_connection: number(9),
                ..CommonOptions::default()
            }),
            upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
                ExplicitHttpConfig {
                    protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2())),
                },
            )),
            ..HttpProtocolOptions::default()
        })
    };
    let full = Cluster {
        load_balancing_policy: policies(vec![
            any(&Unknown::default()),
            any(&PeakEwma {
                decay: seconds(3),
                default_rtt: None,
                slow_start: Some(SlowStartConfig {
                    slow_start_window: seconds(30),
                    aggression: None,
                    min_weight_percent: None,
                }),
            }),
        ])
        .load_balancing_policy,
        ..full
    };
    let limit = |n| NonZeroU32::new(n).unwrap();
    assert_eq!(
        *converted(&full),
        ClusterConfig {
            settings: Settings {
                load_balancer: LoadBalancer::PeakEwma {
                    decay: Duration::from_secs(3),
                    default_rtt: Duration::from_millis(30),
                },
                connect_timeout: Duration::from_secs(2),
                idle_timeout: Duration::from_secs(7),
                max_requests_per_connection: NonZeroU32::new(9),
                tcp_keepalive: settings::TcpKeepalive {
                    time: Duration::from_secs(30),
                    interval: Duration::from_secs(15),
                    probes: limit(2),
                },
                http2: settings::Http2 {
                    concurrent_streams: NonZeroU32::new(10),
                    stream_window: NonZeroU32::new(65_535),
                    connection_window: NonZeroU32::new(1 << 20),
                },
                retry_budget: settings_of_retries::RetryBudget {
                    ratio: Share::millionths(125_000),
                    floor: 0,
                },
                slow_start: Some(settings::SlowStart {
                    window: Duration::from_secs(30),
                    aggression: 1.0,
                    minimum: Share::percent(10),
                }),
                zone: settings::Zone::Prefer,
                panic_threshold: Share::NONE,
                limits: Limits {
                    connections: limit(1),
                    pending: limit(2),
                    requests: limit(3),
                },
                http_version: UpstreamHttp::Http2,
                ..Settings::new(NAME.into())
            },
            endpoints: EndpointSource::Named("other".into()),
        }
    );
}

#[test]
fn a_static_cluster_brings_its_endpoints() {
    let inline = Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(super::endpoints::assignment()),
        ..cluster()
    };
    let EndpointSource::Inline(endpoints) = &converted(&inline).endpoints else {
        panic!("not inline");
    };
    assert_eq!(endpoints.len(), 2);
}

#[test]
fn what_is_wrong_is_named() {
    let thresholds = |thresholds| Cluster {
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds],
            ..CircuitBreakers::default()
        }),
        ..cluster()
    };
    let tls = TransportSocket {
        name: "tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&UpstreamTlsContext::default()))),
    };
    let cases = [
        (
            Cluster {
                connect_timeout: seconds(-1),
                ..cluster()
            },
            "connect_timeout: must be > 0, got -1s",
        ),
        (
            Cluster {
                connect_timeout: seconds(0),
                ..cluster()
            },
            "connect_timeout: must be > 0, got 0s",
        ),
        (
            Cluster {
                name: "other".to_owned(),
                ..cluster()
            },
            "name: it calls itself \"other\"",
        ),
        (
            Cluster {
                eds_cluster_config: None,
                ..cluster()
            },
            "eds_cluster_config.eds_config: is required",
        ),
        (
            Cluster {
                cluster_discovery_type: Some(ClusterDiscoveryType::Type(
                    DiscoveryType::OriginalDst.into(),
                )),
                ..cluster()
            },
            "type: ORIGINAL_DST is not supported by this proxy, only EDS, STATIC and DNS are",
        ),
        (
            Cluster {
                lb_policy: LbPolicy::ClusterProvided.into(),
                ..cluster()
            },
            "lb_policy: CLUSTER_PROVIDED is not supported by this proxy",
        ),
        (
            policies(vec![any(&Unknown::default())]),
            "load_balancing_policy.policies: none is supported by this proxy: [\"type.googleapis.com/envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin\"]",
        ),
        (
            policies(vec![any(&PeakEwma {
                decay: seconds(0),
                default_rtt: None,
                slow_start: None,
            })]),
            "load_balancing_policy.policies.weft.v1.PeakEwma.decay: must be > 0, got 0s",
        ),
        (
            thresholds(Thresholds {
                max_requests: number(0),
                ..Thresholds::default()
            }),
            "circuit_breakers.thresholds[0].max_requests: must be > 0, got 0",
        ),
        (
            Cluster {
                transport_socket: Some(tls.clone()),
                ..cluster()
            },
            "transport_socket: \"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\" is not supported by this proxy; the identity of an endpoint decides about TLS",
        ),
        (
            Cluster {
                transport_socket_matches: vec![TransportSocketMatch {
                    transport_socket: Some(tls),
                    ..TransportSocketMatch::default()
                }],
                ..cluster()
            },
            "transport_socket_matches: is not supported by this proxy",
        ),
    ];
    for (cluster, expected) in cases {
        assert_eq!(refused(&cluster), format!("Cluster {NAME:?}: {expected}"));
    }
}

#[test]
fn every_policy_is_known_by_its_message_and_by_its_older_name() {
    let ring = LoadBalancer::RingHash {
        minimum_size: NonZeroU32::new(64).unwrap(),
        maximum_size: NonZeroU32::new(128).unwrap(),
        bounded_load: NonZeroU32::new(125),
    };
    let maglev = LoadBalancer::Maglev {
        table_size: NonZeroU32::new(251).unwrap(),
        bounded_load: None,
    };
    let legacy = |policy: LbPolicy| Cluster {
        lb_policy: policy.into(),
        ..cluster()
    };
    let cases = [
        (
            policies(vec![any(&RoundRobin::default())]),
            LoadBalancer::RoundRobin,
        ),
        (
            policies(vec![any(&LeastRequest::default())]),
            LoadBalancer::LeastRequest,
        ),
        (
            policies(vec![any(&Random::default())]),
            LoadBalancer::Random,
        ),
        (
            policies(vec![any(&RingHash::default())]),
            LoadBalancer::RING_HASH,
        ),
        (
            policies(vec![any(&Maglev::default())]),
            LoadBalancer::MAGLEV,
        ),
        (
            policies(vec![any(&PeakEwma::default())]),
            LoadBalancer::PEAK_EWMA,
        ),
        (
            policies(vec![any(&RingHash {
                minimum_ring_size: wide(64),
                maximum_ring_size: wide(128),
                consistent_hashing_lb_config: bounded(125),
                ..RingHash::default()
            })]),
            ring,
        ),
        (
            policies(vec![any(&Maglev {
                table_size: wide(251),
                ..Maglev::default()
            })]),
            maglev,
        ),
        (legacy(LbPolicy::RoundRobin), LoadBalancer::RoundRobin),
        (legacy(LbPolicy::LeastRequest), LoadBalancer::LeastRequest),
        (legacy(LbPolicy::Random), LoadBalancer::Random),
        (legacy(LbPolicy::RingHash), LoadBalancer::RING_HASH),
        (legacy(LbPolicy::Maglev), LoadBalancer::MAGLEV),
    ];
    for (cluster, expected) in cases {
        assert_eq!(converted(&cluster).settings.load_balancer, expected);
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let keepalive = |keepalive_time| Cluster {
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_time: number(keepalive_time),
                ..TcpKeepalive::default()
            }),
            ..UpstreamConnectionOptions::default()
        }),
        ..cluster()
    };
    let ring = |minimum, maximum| {
        policies(vec![any(&RingHash {
            minimum_ring_size: wide(minimum),
            maximum_ring_size: wide(maximum),
            ..RingHash::default()
        })])
    };
    let maglev = |size, factor| {
        policies(vec![any(&Maglev {
            table_size: wide(size),
            consistent_hashing_lb_config: bounded(factor),
            ..Maglev::default()
        })])
    };
    let slow_start = |window, aggression, minimum| {
        policies(vec![any(&RoundRobin {
            slow_start_config: Some(SlowStartConfig {
                slow_start_window: window,
                aggression: Some(RuntimeDouble {
                    default_value: aggression,
                    runtime_key: "key".to_owned(),
                }),
                min_weight_percent: percent(minimum),
            }),
            ..RoundRobin::default()
        })])
    };
    let panic = |value| Cluster {
        common_lb_config: Some(CommonLbConfig {
            healthy_panic_threshold: percent(value),
            ..CommonLbConfig::default()
        }),
        ..cluster()
    };
    let window = http_options(&HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig {
                protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions {
                    initial_stream_window_size: number(65_534),
                    ..http2()
                })),
            },
        )),
        ..HttpProtocolOptions::default()
    });
    let at = "load_balancing_policy.policies";
    let cases = [
        (
            ring(0, 1),
            format!("{at}.ring_hash.minimum_ring_size: must be 1 to 8388608, got 0"),
        ),
        (
            ring(9, 8),
            format!("{at}.ring_hash.minimum_ring_size: must be <= maximum_ring_size 8, got 9"),
        ),
        (
            ring(1, 8_388_609),
            format!("{at}.ring_hash.maximum_ring_size: must be 1 to 8388608, got 8388609"),
        ),
        (
            maglev(65_536, 100),
            format!("{at}.maglev.table_size: must be a prime, got 65536"),
        ),
        (
            maglev(5_000_077, 100),
            format!("{at}.maglev.table_size: must be 1 to 5000011, got 5000077"),
        ),
        (
            maglev(251, 99),
            format!(
                "{at}.maglev.consistent_hashing_lb_config.hash_balance_factor: must be >= 100, got 99"
            ),
        ),
        (
            slow_start(None, 1.0, 10.0),
            format!("{at}.round_robin.slow_start_config.slow_start_window: is required"),
        ),
        (
            slow_start(seconds(30), 0.0, 10.0),
            format!(
                "{at}.round_robin.slow_start_config.aggression.default_value: must be > 0, got 0"
            ),
        ),
        (
            slow_start(seconds(30), 1.0, 101.0),
            format!(
                "{at}.round_robin.slow_start_config.min_weight_percent: must be 0 to 100, got 101"
            ),
        ),
        (
            panic(f64::NAN),
            "common_lb_config.healthy_panic_threshold: must be 0 to 100, got NaN".to_owned(),
        ),
        (
            keepalive(0),
            "upstream_connection_options.tcp_keepalive.keepalive_time: must be 1 to 32767, got 0"
                .to_owned(),
        ),
        (
            window,
            format!(
                "{OPTIONS}.explicit_http_config.http2_protocol_options.initial_stream_window_size: must be 65535 to 2147483647, got 65534"
            ),
        ),
    ];
    for (cluster, expected) in cases {
        assert_eq!(refused(&cluster), format!("Cluster {NAME:?}: {expected}"));
    }
}

#[test]
fn a_body_of_another_type_is_refused() {
    let error = convert(NAME, &any(&PeakEwma::default())).unwrap_err();
    assert_eq!(
        error.reason,
        "expected a type.googleapis.com/envoy.config.cluster.v3.Cluster, got \"type.googleapis.com/weft.v1.PeakEwma\""
    );
}

#[test]
fn a_truncated_body_is_refused() {
    let mut body = any(&cluster());
    body.value.truncate(body.value.len() - 3);
    let error = convert(NAME, &body).unwrap_err();
    assert!(error.reason.starts_with("malformed Cluster: "), "{error}");
}

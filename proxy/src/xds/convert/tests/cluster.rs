use super::{ads, any, number, own_metadata, seconds};
use crate::{
    snapshot::{Cluster as Settings, Limits, LoadBalancer, cluster::UpstreamHttp},
    xds::convert::cluster::{ClusterConfig, EndpointSource, convert},
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use weft_xds_proto::{
    envoy::envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster, LoadBalancingPolicy,
                circuit_breakers::Thresholds,
                cluster::{
                    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
                    TransportSocketMatch,
                },
                load_balancing_policy::Policy,
            },
            core::v3::{
                HttpProtocolOptions as CommonOptions, TransportSocket, TypedExtensionConfig,
                transport_socket::ConfigType,
            },
        },
        extensions::{
            load_balancing_policies::maglev::v3::Maglev,
            transport_sockets::tls::v3::UpstreamTlsContext,
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions,
                    explicit_http_config::ProtocolConfig,
                },
            },
        },
    },
    weft::v1::{PeakEwma, ServiceMetadata},
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
                ..Thresholds::default()
            }],
            ..CircuitBreakers::default()
        }),
        metadata: None,
        ..http_options(&HttpProtocolOptions {
            common_http_protocol_options: Some(CommonOptions {
                idle_timeout: seconds(7),
                ..CommonOptions::default()
            }),
            upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
                ExplicitHttpConfig {
                    protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Default::default())),
                },
            )),
            ..HttpProtocolOptions::default()
        })
    };
    let full = Cluster {
        load_balancing_policy: policies(vec![
            any(&Maglev::default()),
            any(&PeakEwma {
                decay: seconds(3),
                default_rtt: None,
                slow_start: None,
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
                lb_policy: LbPolicy::Maglev.into(),
                ..cluster()
            },
            "lb_policy: MAGLEV is not supported by this proxy, only ROUND_ROBIN and LEAST_REQUEST are",
        ),
        (
            policies(vec![any(&Maglev::default())]),
            "load_balancing_policy.policies: none is supported by this proxy: [\"type.googleapis.com/envoy.extensions.load_balancing_policies.maglev.v3.Maglev\"]",
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

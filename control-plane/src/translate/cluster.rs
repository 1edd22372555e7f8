//! Clusters: how to choose among the endpoints of a destination, and how to talk to them.

use super::{
    Dialect,
    endpoints::{TLS_MODE, tls_mode},
    name::{self, Destination},
    proto::{ads, any, duration, file, limit_of, metadata, tls},
};
use crate::world::{Limits, LoadBalancer, Protocol, World};
use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            CircuitBreakers, Cluster as Message, LoadBalancingPolicy,
            circuit_breakers::Thresholds,
            cluster::{
                ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
                TransportSocketMatch,
            },
            load_balancing_policy::Policy,
        },
        core::v3::{RoutingPriority, TypedExtensionConfig},
    },
    extensions::{
        transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, TlsCertificate,
            TlsParameters, UpstreamTlsContext, common_tls_context::ValidationContextType,
            subject_alt_name_matcher::SanType, tls_parameters::TlsProtocol,
        },
        upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                explicit_http_config::ProtocolConfig,
            },
        },
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use weft_xds_proto::{
    spiffe::SpiffeId,
    weft::v1::{PeakEwma, ServiceMetadata},
};

/// The cluster of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Cluster {
    name: Arc<str>,
    connect_timeout: Duration,
    limits: Limits,
    form: Form,
}

/// What differs by dialect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Form {
    Weft {
        load_balancer: LoadBalancer,
        /// Empty where the cluster stands for an address.
        service: Arc<str>,
        namespace: Arc<str>,
    },
    /// Round robin, whatever the mesh prefers: the one policy that every gRPC client has.
    Grpc,
    Envoy {
        load_balancer: LoadBalancer,
        protocol: Protocol,
        tls: Option<EnvoyTls>,
    },
}

/// How an Envoy that has a certificate speaks to endpoints of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct EnvoyTls {
    directory: Arc<str>,
    /// Envoy cannot tell endpoints apart here, so these are the identities of all of them.
    identities: BTreeSet<SpiffeId>,
}

/// The time in which an old peak loses all but 1/e of its weight.
const EWMA_DECAY: Duration = Duration::from_secs(10);
/// The latency assumed of an endpoint never used.
const EWMA_DEFAULT_RTT: Duration = Duration::from_millis(30);

impl Cluster {
    pub(super) fn plan(world: &World, dialect: &Dialect, name: &str) -> Option<Self> {
        let mesh = world.mesh();
        let destination = name::cluster(world, name)?;
        let form = match (dialect, &destination) {
            (Dialect::Weft, Destination::Service(service, _)) => Form::Weft {
                load_balancer: mesh.load_balancer,
                service: service.key.name.clone(),
                namespace: service.key.namespace.clone(),
            },
            (Dialect::Weft, Destination::Workload(..)) => Form::Weft {
                load_balancer: mesh.load_balancer,
                service: "".into(),
                namespace: "".into(),
            },
            (Dialect::Grpc, _) => Form::Grpc,
            (Dialect::Envoy(envoy), Destination::Service(_, port)) => Form::Envoy {
                load_balancer: mesh.load_balancer,
                protocol: port.protocol,
                tls: envoy
                    .certificates
                    .as_ref()
                    .and_then(|directory| EnvoyTls::plan(world, directory, &destination)),
            },
            // Envoys route by authority, and a wildcard over every address would be large.
            (Dialect::Envoy(_), Destination::Workload(..)) => return None,
        };
        Some(Self {
            name: destination.cluster(world),
            connect_timeout: mesh.connect_timeout,
            limits: mesh.limits,
            form,
        })
    }

    pub(super) fn message(&self) -> Message {
        let cluster = Message {
            name: self.name.to_string(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
            eds_cluster_config: Some(EdsClusterConfig {
                eds_config: ads(),
                service_name: self.name.to_string(),
            }),
            connect_timeout: Some(duration(self.connect_timeout)),
            circuit_breakers: Some(circuit_breakers(self.limits)),
            ..Message::default()
        };
        match &self.form {
            Form::Weft {
                load_balancer,
                service,
                namespace,
            } => Message {
                lb_policy: lb_policy(*load_balancer).into(),
                load_balancing_policy: (*load_balancer == LoadBalancer::PeakEwma).then(peak_ewma),
                metadata: Some(metadata(ServiceMetadata {
                    service: service.to_string(),
                    namespace: namespace.to_string(),
                    ..ServiceMetadata::default()
                })),
                ..cluster
            },
            Form::Grpc => Message {
                lb_policy: LbPolicy::RoundRobin.into(),
                ..cluster
            },
            Form::Envoy {
                load_balancer,
                protocol,
                tls,
            } => Message {
                lb_policy: lb_policy(*load_balancer).into(),
                typed_extension_protocol_options: http_version(*protocol)
                    .map(|options| {
                        let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
                        (key.to_owned(), any(options))
                    })
                    .into_iter()
                    .collect(),
                transport_socket_matches: tls
                    .iter()
                    .map(|tls| tls.transport_socket(*protocol))
                    .collect(),
                ..cluster
            },
        }
    }
}

impl EnvoyTls {
    /// Absent where no endpoint is of the mesh.
    fn plan(world: &World, directory: &Arc<str>, destination: &Destination<'_>) -> Option<Self> {
        let identities: BTreeSet<_> = destination
            .endpoints(world)
            .iter()
            .filter_map(|endpoint| endpoint.workload.as_ref())
            .filter(|workload| workload.meshed)
            .map(|workload| workload.identity.clone())
            .collect();
        (!identities.is_empty()).then(|| Self {
            directory: directory.clone(),
            identities,
        })
    }

    /// Taken for endpoints whose metadata says so; the others get the cluster's own socket, plaintext.
    fn transport_socket(&self, protocol: Protocol) -> TransportSocketMatch {
        let path = |name: &str| file(format!("{}/{name}", self.directory));
        let alpn: &[&str] = match protocol {
            Protocol::Http => &["http/1.1"],
            Protocol::Http2 => &["h2"],
            // What will be spoken is not known when the connection is made.
            Protocol::Undeclared | Protocol::Tcp => &[],
        };
        TransportSocketMatch {
            name: TLS_MODE.to_owned(),
            r#match: Some(tls_mode()),
            transport_socket: tls(UpstreamTlsContext {
                common_tls_context: Some(CommonTlsContext {
                    // Sidecars speak nothing older, and Envoy as a client stops at TLS 1.2 unless told.
                    tls_params: Some(TlsParameters {
                        tls_minimum_protocol_version: TlsProtocol::TlSv13.into(),
                        tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                        ..TlsParameters::default()
                    }),
                    alpn_protocols: alpn.iter().map(|&alpn| alpn.to_owned()).collect(),
                    tls_certificates: vec![TlsCertificate {
                        certificate_chain: path("cert-chain.pem"),
                        private_key: path("key.pem"),
                        ..TlsCertificate::default()
                    }],
                    validation_context_type: Some(ValidationContextType::ValidationContext(
                        CertificateValidationContext {
                            trusted_ca: path("root-cert.pem"),
                            match_typed_subject_alt_names: self
                                .identities
                                .iter()
                                .map(uri_matcher)
                                .collect(),
                            ..CertificateValidationContext::default()
                        },
                    )),
                    ..CommonTlsContext::default()
                }),
                ..UpstreamTlsContext::default()
            }),
        }
    }
}

fn uri_matcher(identity: &SpiffeId) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(identity.to_string())),
            ..StringMatcher::default()
        }),
        ..SubjectAltNameMatcher::default()
    }
}

/// Envoy has no peak-EWMA; least request is the nearest.
fn lb_policy(load_balancer: LoadBalancer) -> LbPolicy {
    match load_balancer {
        LoadBalancer::PeakEwma | LoadBalancer::LeastRequest => LbPolicy::LeastRequest,
        LoadBalancer::RoundRobin => LbPolicy::RoundRobin,
    }
}

fn peak_ewma() -> LoadBalancingPolicy {
    LoadBalancingPolicy {
        policies: vec![Policy {
            typed_extension_config: Some(TypedExtensionConfig {
                name: "weft.peak_ewma".to_owned(),
                typed_config: Some(any(PeakEwma {
                    decay: Some(duration(EWMA_DECAY)),
                    default_rtt: Some(duration(EWMA_DEFAULT_RTT)),
                    slow_start: None,
                })),
            }),
        }],
    }
}

fn circuit_breakers(limits: Limits) -> CircuitBreakers {
    CircuitBreakers {
        thresholds: vec![Thresholds {
            priority: RoutingPriority::Default.into(),
            max_connections: limit_of(limits.connections),
            max_pending_requests: limit_of(limits.pending),
            max_requests: limit_of(limits.requests),
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    }
}

/// HTTP/1.1 for `http`, which every server of it speaks; what the caller spoke where nothing is declared.
fn http_version(protocol: Protocol) -> Option<HttpProtocolOptions> {
    let explicit = |protocol| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(protocol),
        })
    };
    let options = match protocol {
        Protocol::Tcp => return None,
        Protocol::Http => explicit(ProtocolConfig::HttpProtocolOptions(Default::default())),
        Protocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(Default::default())),
        Protocol::Undeclared => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(Default::default()),
                http2_protocol_options: Some(Default::default()),
                ..UseDownstreamHttpConfig::default()
            })
        }
    };
    Some(HttpProtocolOptions {
        upstream_protocol_options: Some(options),
        ..HttpProtocolOptions::default()
    })
}

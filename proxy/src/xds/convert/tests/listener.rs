use super::{ads, any, number, own_metadata, seconds};
use crate::{
    snapshot::{Inbound, InboundPort, MtlsMode, Protocol, WorkloadName, admission::Limits},
    xds::convert::listener::{Listener, Outbound, RouteSource, convert},
};
use std::{sync::Arc, time::Duration};
use weft_xds_proto::{
    envoy::{
        envoy::{
            config::{
                core::v3::{TransportSocket, transport_socket::ConfigType as SocketConfig},
                listener::v3::{
                    Filter, FilterChain, FilterChainMatch, Listener as Proto, ListenerFilter,
                    filter::ConfigType, listener_filter,
                },
                route::v3::RouteConfiguration,
            },
            extensions::{
                filters::{
                    http::{fault::v3::HttpFault, rbac::v3::Rbac, router::v3::Router},
                    listener::{
                        http_inspector::v3::HttpInspector, proxy_protocol::v3::ProxyProtocol,
                    },
                    network::{
                        http_connection_manager::v3::{
                            HttpConnectionManager, HttpFilter, Rds,
                            http_connection_manager::{CodecType, RouteSpecifier},
                            http_filter,
                        },
                        tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
                    },
                },
                transport_sockets::tls::v3::{
                    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
                    common_tls_context::ValidationContextType,
                },
            },
        },
        google::protobuf::{Any, BoolValue},
    },
    weft::v1::WorkloadMetadata,
};

const NAME: &str = "user.demo.svc.cluster.local:80";
pub(super) const OWN: &str = "inbound/demo/user-0";

fn filter(config: Any) -> Filter {
    Filter {
        name: "filter".to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}

pub(super) fn http_filter(config: Any) -> HttpFilter {
    HttpFilter {
        name: "filter".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

pub(super) fn manager() -> HttpConnectionManager {
    HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: ads(),
            route_config_name: NAME.to_owned(),
        })),
        http_filters: vec![http_filter(any(&Router::default()))],
        ..HttpConnectionManager::default()
    }
}

pub(super) fn http(manager: HttpConnectionManager) -> FilterChain {
    FilterChain {
        filters: vec![filter(any(&manager))],
        ..FilterChain::default()
    }
}

fn proxy() -> TcpProxy {
    TcpProxy {
        cluster_specifier: Some(ClusterSpecifier::Cluster(NAME.to_owned())),
        ..TcpProxy::default()
    }
}

fn tcp() -> FilterChain {
    FilterChain {
        filters: vec![filter(any(&proxy()))],
        ..FilterChain::default()
    }
}

fn detected(chain: FilterChain) -> FilterChain {
    let rule = chain.filter_chain_match.unwrap_or_default();
    FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            application_protocols: ["http/1.1", "h2c"].map(str::to_owned).into(),
            ..rule
        }),
        ..chain
    }
}

fn listener(filter_chains: Vec<FilterChain>, default: Option<FilterChain>) -> Proto {
    Proto {
        name: NAME.to_owned(),
        filter_chains,
        default_filter_chain: default,
        ..Proto::default()
    }
}

pub(super) fn outbound_listener(chains: Vec<FilterChain>) -> Proto {
    listener(chains, None)
}

fn outbound(listener: &Proto) -> Outbound {
    match convert(NAME, &any(listener), OWN).unwrap() {
        Listener::Outbound(outbound) => Arc::unwrap_or_clone(outbound),
        Listener::Inbound(_) => panic!("not outbound"),
    }
}

pub(super) fn refused(listener: &Proto) -> String {
    convert(&listener.name, &any(listener), OWN)
        .unwrap_err()
        .to_string()
}

fn expected() -> Outbound {
    Outbound {
        name: NAME.into(),
        protocol: Protocol::Http,
        routes: Some(RouteSource::Named(NAME.into())),
        tcp: None,
        stream_idle_timeout: Some(Duration::from_secs(300)),
    }
}

#[test]
fn a_declared_protocol_has_one_chain() {
    assert_eq!(outbound(&listener(vec![http(manager())], None)), expected());
    let http2 = HttpConnectionManager {
        codec_type: CodecType::Http2.into(),
        stream_idle_timeout: seconds(0),
        ..manager()
    };
    assert_eq!(
        outbound(&listener(vec![http(http2)], None)),
        Outbound {
            protocol: Protocol::Http2,
            stream_idle_timeout: None,
            ..expected()
        }
    );
    assert_eq!(
        outbound(&listener(vec![], Some(tcp()))),
        Outbound {
            protocol: Protocol::Tcp,
            routes: None,
            tcp: Some(NAME.into()),
            stream_idle_timeout: None,
            ..expected()
        }
    );
}

#[test]
fn a_protocol_to_detect_has_two_chains() {
    let inspector = ListenerFilter {
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(
            &HttpInspector {},
        ))),
        ..ListenerFilter::default()
    };
    let undeclared = Proto {
        listener_filters: vec![inspector],
        ..listener(vec![detected(http(manager()))], Some(tcp()))
    };
    assert_eq!(
        outbound(&undeclared),
        Outbound {
            protocol: Protocol::Detect,
            tcp: Some(NAME.into()),
            ..expected()
        }
    );
}

#[test]
fn routes_may_be_inline() {
    let inline = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::RouteConfig(RouteConfiguration {
            name: "inline".to_owned(),
            ..RouteConfiguration::default()
        })),
        ..manager()
    };
    let Some(RouteSource::Inline(routes)) = outbound(&listener(vec![http(inline)], None)).routes
    else {
        panic!("not inline");
    };
    assert_eq!(&*routes.name, "inline");
}

#[test]
fn an_unknown_filter_is_refused_unless_it_is_optional() {
    let with = |filter| {
        listener(
            vec![http(HttpConnectionManager {
                http_filters: vec![filter],
                ..manager()
            })],
            None,
        )
    };
    let rbac = http_filter(any(&Rbac::default()));
    assert_eq!(
        refused(&with(rbac.clone())),
        format!(
            "Listener {NAME:?}: filter_chains[0].filters[0].typed_config.http_filters[0]: \"type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC\" is not supported by this proxy and not optional"
        )
    );
    outbound(&with(HttpFilter {
        is_optional: true,
        ..rbac
    }));
}

#[test]
fn a_fault_filter_is_known_as_long_as_the_routes_say_what_it_does() {
    let with = |fault: HttpFault| {
        let filters = vec![http_filter(any(&fault))];
        listener(
            vec![http(HttpConnectionManager {
                http_filters: filters,
                ..manager()
            })],
            None,
        )
    };
    outbound(&with(HttpFault::default()));
    let fault = HttpFault {
        upstream_cluster: "user".to_owned(),
        ..HttpFault::default()
    };
    let refused = refused(&with(fault));
    assert!(
        refused.ends_with("is not supported by this proxy and not optional"),
        "{refused}"
    );
}

#[test]
fn what_is_wrong_is_named() {
    let proxy_protocol = ListenerFilter {
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(
            &ProxyProtocol::default(),
        ))),
        ..ListenerFilter::default()
    };
    let cases = [
        (
            listener(vec![], None),
            "filter_chains: no chain says what to do",
        ),
        (
            listener(vec![http(manager())], Some(tcp())),
            "filter_chains: a chain for HTTP and one for TCP match alike: the one for HTTP needs application_protocols",
        ),
        (
            listener(vec![detected(http(manager()))], None),
            "filter_chains: HTTP is detected, but no chain says what to do with anything else",
        ),
        (
            listener(vec![FilterChain::default()], None),
            "filter_chains[0].filters: exactly one network filter is supported by this proxy, got []",
        ),
        (
            listener(
                vec![FilterChain {
                    filters: vec![filter(any(&Router::default()))],
                    ..FilterChain::default()
                }],
                None,
            ),
            "filter_chains[0].filters[0].typed_config: \"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\" is not supported by this proxy",
        ),
        (
            listener(
                vec![FilterChain {
                    filter_chain_match: Some(FilterChainMatch {
                        server_names: vec!["user".to_owned()],
                        ..FilterChainMatch::default()
                    }),
                    ..tcp()
                }],
                None,
            ),
            "filter_chains[0].filter_chain_match.server_names: is not supported by this proxy",
        ),
        (
            listener(
                vec![FilterChain {
                    transport_socket: mutual_tls(),
                    ..tcp()
                }],
                None,
            ),
            "filter_chains[0].transport_socket: is not supported by this proxy",
        ),
        (
            listener(
                vec![http(HttpConnectionManager {
                    codec_type: CodecType::Http3.into(),
                    ..manager()
                })],
                None,
            ),
            "filter_chains[0].filters[0].typed_config.codec_type: must be AUTO, HTTP1 or HTTP2",
        ),
        (
            listener(
                vec![http(HttpConnectionManager {
                    route_specifier: None,
                    ..manager()
                })],
                None,
            ),
            "filter_chains[0].filters[0].typed_config.route_specifier: is required",
        ),
        (
            Proto {
                listener_filters: vec![proxy_protocol],
                ..listener(vec![], Some(tcp()))
            },
            "listener_filters[0].typed_config: \"type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol\" is not supported by this proxy",
        ),
    ];
    for (listener, expected) in cases {
        assert_eq!(refused(&listener), format!("Listener {NAME:?}: {expected}"));
    }
}

fn context() -> DownstreamTlsContext {
    let secret = |name: &str| SdsSecretConfig {
        name: name.to_owned(),
        sds_config: ads(),
    };
    DownstreamTlsContext {
        require_client_certificate: Some(BoolValue { value: true }),
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret("default")],
            validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(
                secret("ROOTCA"),
            )),
            ..CommonTlsContext::default()
        }),
        ..DownstreamTlsContext::default()
    }
}

fn socket(context: &DownstreamTlsContext) -> Option<TransportSocket> {
    Some(TransportSocket {
        name: "tls".to_owned(),
        config_type: Some(SocketConfig::TypedConfig(any(context))),
    })
}

fn mutual_tls() -> Option<TransportSocket> {
    socket(&context())
}

pub(super) fn at(port: u32, chain: FilterChain) -> FilterChain {
    let rule = chain.filter_chain_match.unwrap_or_default();
    FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            destination_port: number(port),
            ..rule
        }),
        ..chain
    }
}

pub(super) fn behind_tls(chain: FilterChain) -> FilterChain {
    transport("tls", mutual_tls(), chain)
}

pub(super) fn plaintext(chain: FilterChain) -> FilterChain {
    transport("raw_buffer", None, chain)
}

fn transport(
    protocol: &str,
    transport_socket: Option<TransportSocket>,
    chain: FilterChain,
) -> FilterChain {
    let rule = chain.filter_chain_match.unwrap_or_default();
    FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            transport_protocol: protocol.to_owned(),
            ..rule
        }),
        transport_socket,
        ..chain
    }
}

/// The chains that every inbound listener must have.
pub(super) fn others() -> Vec<FilterChain> {
    vec![
        behind_tls(detected(http(manager()))),
        behind_tls(tcp()),
        plaintext(detected(http(manager()))),
        plaintext(tcp()),
    ]
}

pub(super) fn inbound_listener(chains: Vec<FilterChain>) -> Proto {
    Proto {
        name: OWN.to_owned(),
        metadata: own_metadata(&WorkloadMetadata {
            workload: "user".to_owned(),
            namespace: "demo".to_owned(),
            zone: "a".to_owned(),
        }),
        ..listener(chains, None)
    }
}

/// An inbound listener that takes plaintext everywhere.
pub(in crate::xds) fn permissive(name: &str) -> Proto {
    Proto {
        name: name.to_owned(),
        ..inbound_listener(others())
    }
}

fn port(protocol: Protocol, mtls: MtlsMode, idle: Option<u64>) -> InboundPort {
    InboundPort {
        protocol,
        mtls,
        connect_timeout: Duration::from_secs(1),
        idle_timeout: idle.map(Duration::from_secs),
        limits: Limits::default(),
    }
}

#[test]
fn inbound_ports_have_their_protocol_and_mode() {
    let mut chains = vec![
        at(80, behind_tls(http(manager()))),
        at(80, plaintext(http(manager()))),
        at(6379, behind_tls(tcp())),
        at(
            9090,
            behind_tls(http(HttpConnectionManager {
                codec_type: CodecType::Http2.into(),
                stream_idle_timeout: seconds(0),
                ..manager()
            })),
        ),
    ];
    chains.extend(others());
    let converted = convert(OWN, &any(&inbound_listener(chains)), OWN).unwrap();
    assert_eq!(
        converted,
        Listener::Inbound(Inbound {
            workload: WorkloadName {
                name: "user".into(),
                namespace: "demo".into(),
            },
            zone: "a".into(),
            ports: [
                (80, port(Protocol::Http, MtlsMode::Permissive, Some(300))),
                (6379, port(Protocol::Tcp, MtlsMode::Strict, Some(3600))),
                (9090, port(Protocol::Http2, MtlsMode::Strict, None)),
            ]
            .into(),
            other: port(Protocol::Detect, MtlsMode::Permissive, Some(300)),
        })
    );
}

#[test]
fn what_is_wrong_with_an_inbound_listener_is_named() {
    let with = |mut chains: Vec<FilterChain>| {
        chains.extend(others());
        inbound_listener(chains)
    };
    let tls = |context: DownstreamTlsContext| {
        with(vec![at(
            80,
            transport("tls", socket(&context), http(manager())),
        )])
    };
    let cases = [
        (
            inbound_listener(vec![at(80, behind_tls(tcp()))]),
            "filter_chains: no chain for ports that are not listed (one without destination_port)",
        ),
        (
            with(vec![at(80, plaintext(tcp()))]),
            "filter_chains for port 80: there is no chain for mutual TLS, and plaintext alone is not supported by this proxy",
        ),
        (
            with(vec![
                at(80, plaintext(tcp())),
                at(80, behind_tls(http(manager()))),
            ]),
            "filter_chains for port 80: Http behind TLS but Tcp in plaintext",
        ),
        (
            with(vec![at(70_000, behind_tls(tcp()))]),
            "filter_chains[0].filter_chain_match.destination_port: must be from 1 to 65535, got 70000",
        ),
        (
            with(vec![at(80, transport("tls", None, tcp()))]),
            "filter_chains[0].filter_chain_match.transport_protocol: \"tls\" does not go with the transport_socket",
        ),
        (
            with(vec![at(80, behind_tls(tcp())), at(80, behind_tls(tcp()))]),
            "filter_chains[1]: there is another chain for TCP already",
        ),
        (
            tls(DownstreamTlsContext {
                require_client_certificate: None,
                ..context()
            }),
            "filter_chains[0].transport_socket.typed_config.require_client_certificate: must be true: TLS without a client certificate is not supported by this proxy",
        ),
        (
            tls(DownstreamTlsContext {
                common_tls_context: Some(CommonTlsContext {
                    validation_context_type: None,
                    ..context().common_tls_context.unwrap()
                }),
                ..context()
            }),
            "filter_chains[0].transport_socket.typed_config.common_tls_context.validation_context_type: is required",
        ),
        (
            tls(DownstreamTlsContext {
                common_tls_context: Some(CommonTlsContext {
                    tls_certificate_sds_secret_configs: Vec::new(),
                    ..context().common_tls_context.unwrap()
                }),
                ..context()
            }),
            "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificate_sds_secret_configs: must be \"default\" alone, got []",
        ),
    ];
    for (listener, expected) in cases {
        assert_eq!(refused(&listener), format!("Listener {OWN:?}: {expected}"));
    }
}

//! The inbound listener: per port, what the application speaks and whether plaintext is taken.

use super::{
    Found, chains, detected_http,
    filter::{Terminal, terminal},
    limits, only_matches,
};
use crate::{
    snapshot::{Inbound, InboundPort, MtlsMode, Protocol, admission::Limits},
    xds::convert::{
        endpoints::workload,
        field::{At, Fault, decode, is, own_metadata, required, unsupported},
    },
};
use std::{collections::BTreeMap, time::Duration};
use weft_xds_proto::{
    envoy::envoy::{
        config::{
            core::v3::{TransportSocket, transport_socket::ConfigType},
            listener::v3::{FilterChain, Listener as Proto},
        },
        extensions::transport_sockets::{
            raw_buffer::v3::RawBuffer,
            tls::v3::{
                CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
                common_tls_context::ValidationContextType,
            },
        },
    },
    names::{ROOT_SECRET, WORKLOAD_SECRET},
    weft::v1::WorkloadMetadata,
};

/// To connect to the application, which is on the same machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The chains of one port: those behind TLS and those in plaintext must mean the same protocol.
#[derive(Debug, Default)]
struct Chains {
    tls: Option<Found>,
    plaintext: Option<Found>,
    tcp_idle_timeout: Option<Duration>,
}

/// Weft's chains are told apart by port, transport and detected protocol only.
const CONDITIONS: [&str; 3] = [
    "destination_port",
    "transport_protocol",
    "application_protocols",
];

pub(super) fn convert(listener: Proto) -> Result<Inbound, Fault> {
    let metadata =
        own_metadata::<WorkloadMetadata>(listener.metadata.as_ref())?.unwrap_or_default();
    let mut by_port: BTreeMap<Option<u16>, Chains> = BTreeMap::new();
    for (at, chain) in chains(&listener) {
        add(chain, &mut by_port).at(at)?;
    }
    let other = by_port.remove(&None).ok_or_else(|| {
        Fault::new("no chain for ports that are not listed (one without destination_port)")
            .at("filter_chains")
    })?;
    let mut ports = BTreeMap::new();
    for (port, chains) in by_port {
        let port = port.expect("the chains without a port were taken out above");
        let inbound = chains
            .port()
            .at(format_args!("filter_chains for port {port}"))?;
        ports.insert(port, inbound);
    }
    let other = other.port().at("filter_chains without destination_port")?;
    limits::one_to_a_name(ports.values().chain([&other])).at("filter_chains")?;
    Ok(Inbound {
        workload: workload(&metadata.workload, &metadata.namespace),
        zone: metadata.zone.into(),
        ports,
        other,
    })
}

fn add(chain: &FilterChain, by_port: &mut BTreeMap<Option<u16>, Chains>) -> Result<(), Fault> {
    let rule = chain.filter_chain_match.clone().unwrap_or_default();
    let at = "filter_chain_match";
    only_matches(&rule, &CONDITIONS).at(at)?;
    let port = match &rule.destination_port {
        None => None,
        Some(port) => Some(
            u16::try_from(port.value)
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| {
                    Fault::new(format!("must be from 1 to 65535, got {}", port.value))
                        .at("destination_port")
                        .at(at)
                })?,
        ),
    };
    let tls = match &chain.transport_socket {
        Some(socket) => mutual_tls(socket).at("transport_socket")?,
        None => false,
    };
    // The chain is chosen by `transport_protocol`, and then its transport socket acts: they must agree.
    match (rule.transport_protocol.as_str(), tls) {
        ("tls", true) | ("" | "raw_buffer", false) => {}
        ("", true) => {}
        (protocol, _) => {
            return Err(Fault::new(format!(
                "{protocol:?} does not go with the transport_socket"
            ))
            .at("transport_protocol")
            .at(at));
        }
    }
    let detected = detected_http(&rule).at(at)?;
    let terminal = terminal(&chain.filters)?;

    let chains = by_port.entry(port).or_default();
    let found = if tls {
        &mut chains.tls
    } else {
        &mut chains.plaintext
    }
    .get_or_insert_default();
    match terminal {
        Terminal::Http(http) => found.add_http(http, detected),
        Terminal::Tcp(tcp) => {
            chains.tcp_idle_timeout = tcp.idle_timeout;
            found.add_tcp(tcp.cluster)
        }
    }
}

impl Chains {
    fn port(self) -> Result<InboundPort, Fault> {
        let (tls, mtls) = match (self.tls, &self.plaintext) {
            (Some(tls), Some(_)) => (tls, MtlsMode::Permissive),
            (Some(tls), None) => (tls, MtlsMode::Strict),
            (None, _) => {
                return Err(Fault::new(
                    "there is no chain for mutual TLS, and plaintext alone is not supported by this proxy",
                ));
            }
        };
        let protocol = tls.protocol()?;
        if let Some(plaintext) = &self.plaintext {
            let other = plaintext.protocol()?;
            if other != protocol {
                return Err(Fault::new(format!(
                    "{protocol:?} behind TLS but {other:?} in plaintext"
                )));
            }
            let limits = |found: &Found| found.http.as_ref().map(|http| http.limits.clone());
            if limits(plaintext) != limits(&tls) {
                return Err(Fault::new("other limits behind TLS than in plaintext"));
            }
        }
        let (idle_timeout, limits) = match (protocol, tls.http) {
            (Protocol::Tcp, _) | (_, None) => (self.tcp_idle_timeout, Limits::default()),
            (_, Some(http)) => (http.stream_idle_timeout, http.limits),
        };
        Ok(InboundPort {
            protocol,
            mtls,
            connect_timeout: CONNECT_TIMEOUT,
            idle_timeout,
            limits,
        })
    }
}

/// Whether a transport socket is mutual TLS of the mesh (or none at all). Anything else is refused: it is not
/// what callers would get.
fn mutual_tls(socket: &TransportSocket) -> Result<bool, Fault> {
    let ConfigType::TypedConfig(any) = required("typed_config", socket.config_type.as_ref())?;
    if is::<RawBuffer>(any) {
        return Ok(false);
    }
    if !is::<DownstreamTlsContext>(any) {
        return Err(
            Fault::new(format!("{:?} is not supported by this proxy", any.type_url))
                .at("typed_config"),
        );
    }
    context(&decode(any).at("typed_config")?).at("typed_config")?;
    Ok(true)
}

fn context(tls: &DownstreamTlsContext) -> Result<(), Fault> {
    if !tls
        .require_client_certificate
        .as_ref()
        .is_some_and(|required| required.value)
    {
        return Err(Fault::new(
            "must be true: TLS without a client certificate is not supported by this proxy",
        )
        .at("require_client_certificate"));
    }
    let common = required("common_tls_context", tls.common_tls_context.as_ref())?;
    common_context(common).at("common_tls_context")
}

fn common_context(common: &CommonTlsContext) -> Result<(), Fault> {
    unsupported("tls_certificates", !common.tls_certificates.is_empty())?;
    unsupported("custom_handshaker", common.custom_handshaker.is_some())?;
    unsupported(
        "custom_tls_certificate_selector",
        common.custom_tls_certificate_selector.is_some(),
    )?;
    let own: Vec<_> = common.tls_certificate_sds_secret_configs.iter().collect();
    secret(&own, WORKLOAD_SECRET).at("tls_certificate_sds_secret_configs")?;
    match required(
        "validation_context_type",
        common.validation_context_type.as_ref(),
    )? {
        ValidationContextType::ValidationContextSdsSecretConfig(roots) => {
            secret(&[roots], ROOT_SECRET).at("validation_context_sds_secret_config")
        }
        _ => Err(Fault::new(format!(
            "must be the validation_context_sds_secret_config {ROOT_SECRET:?}"
        ))
        .at("validation_context_type")),
    }
}

fn secret(configs: &[&SdsSecretConfig], expected: &str) -> Result<(), Fault> {
    match configs {
        [config] if config.name == expected => Ok(()),
        _ => Err(Fault::new(format!(
            "must be {expected:?} alone, got {:?}",
            configs
                .iter()
                .map(|config| &config.name)
                .collect::<Vec<_>>()
        ))),
    }
}

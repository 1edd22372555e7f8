//! `envoy.config.listener.v3.Listener`: what an application dialled, or the inbound side of this workload.

mod filter;
mod inbound;
mod limits;

use self::filter::{Http, Terminal};
use super::{
    Invalid, Routes,
    field::{At, Fault, is, unsupported},
};
use crate::snapshot::{Inbound, Protocol};
use std::{sync::Arc, time::Duration};
use weft_xds_proto::{
    envoy::{
        envoy::{
            config::listener::v3::{
                FilterChain, FilterChainMatch, Listener as Proto, ListenerFilter,
                filter_chain_match::ConnectionSourceType, listener_filter::ConfigType,
            },
            extensions::filters::listener::{
                http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
                tls_inspector::v3::TlsInspector,
            },
        },
        google::protobuf::Any,
    },
    resource::ResourceType,
};

/// A listener.
#[derive(Debug, Clone, PartialEq)]
pub enum Listener {
    /// A destination.
    Outbound(Arc<Outbound>),
    /// The inbound side of this workload.
    Inbound(Inbound),
}

/// A destination whose routes and cluster are still names.
#[derive(Debug, Clone, PartialEq)]
pub struct Outbound {
    /// The resource name.
    pub name: Arc<str>,
    /// What its connections speak.
    pub protocol: Protocol,
    /// Where HTTP requests go.
    pub routes: Option<RouteSource>,
    /// The cluster where opaque connections go.
    pub tcp: Option<Arc<str>>,
    /// For routes without their own (`HttpConnectionManager.stream_idle_timeout`); `None` never ends.
    pub stream_idle_timeout: Option<Duration>,
}

/// Where the routes of a listener are.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteSource {
    /// In the RouteConfiguration of this name (`rds`).
    Named(Arc<str>),
    /// In the listener itself (`route_config`).
    Inline(Arc<Routes>),
}

/// Application protocols that mark a filter chain as the one for HTTP when the protocol is detected.
const DETECTED_HTTP: [&str; 4] = ["http/1.0", "http/1.1", "h2", "h2c"];

/// Converts a Listener. One whose name is `inbound` must be an inbound one.
///
/// Not honoured: addresses and socket options (a listener of Weft is not bound), access logs, tracing.
pub fn convert(name: &str, body: &Any, own_inbound: &str) -> Result<Listener, Invalid> {
    super::resource(
        ResourceType::Listener,
        name,
        body,
        |listener: &Proto| &listener.name,
        |listener| {
            check(&listener)?;
            if name == own_inbound {
                inbound::convert(listener).map(Listener::Inbound)
            } else {
                outbound(listener).map(|outbound| Listener::Outbound(Arc::new(outbound)))
            }
        },
    )
}

fn check(listener: &Proto) -> Result<(), Fault> {
    unsupported("api_listener", listener.api_listener.is_some())?;
    unsupported(
        "filter_chain_matcher",
        listener.filter_chain_matcher.is_some(),
    )?;
    unsupported("fcds_config", listener.fcds_config.is_some())?;
    unsupported(
        "udp_listener_config",
        listener.udp_listener_config.is_some(),
    )?;
    for (position, filter) in listener.listener_filters.iter().enumerate() {
        listener_filter(filter).at(format_args!("listener_filters[{position}]"))?;
    }
    Ok(())
}

fn listener_filter(filter: &ListenerFilter) -> Result<(), Fault> {
    match &filter.config_type {
        Some(ConfigType::TypedConfig(any))
            if is::<HttpInspector>(any) || is::<TlsInspector>(any) || is::<OriginalDst>(any) =>
        {
            Ok(())
        }
        Some(ConfigType::TypedConfig(any)) => Err(Fault::new(format!(
            "{:?} is not supported by this proxy",
            any.type_url
        ))
        .at("typed_config")),
        Some(ConfigType::ConfigDiscovery(_)) => {
            Err(Fault::new("is not supported by this proxy").at("config_discovery"))
        }
        None => Err(Fault::new("is required").at("typed_config")),
    }
}

/// Every chain that there is, with the path of its field.
fn chains(listener: &Proto) -> impl Iterator<Item = (String, &FilterChain)> {
    let numbered = listener
        .filter_chains
        .iter()
        .enumerate()
        .map(|(position, chain)| (format!("filter_chains[{position}]"), chain));
    let default = listener
        .default_filter_chain
        .iter()
        .map(|chain| ("default_filter_chain".to_owned(), chain));
    numbered.chain(default)
}

fn outbound(listener: Proto) -> Result<Outbound, Fault> {
    let mut found = Found::default();
    for (at, chain) in chains(&listener) {
        outbound_chain(chain, &mut found).at(at)?;
    }
    let protocol = found.protocol()?;
    let (routes, stream_idle_timeout) = match found.http {
        Some(http) => (Some(http.routes), http.stream_idle_timeout),
        None => (None, None),
    };
    Ok(Outbound {
        name: listener.name.into(),
        protocol,
        routes,
        tcp: found.tcp,
        stream_idle_timeout,
    })
}

fn outbound_chain(chain: &FilterChain, found: &mut Found) -> Result<(), Fault> {
    // An application that dials a destination speaks to this proxy in plaintext.
    unsupported("transport_socket", chain.transport_socket.is_some())?;
    let detected = match &chain.filter_chain_match {
        None => false,
        Some(rule) => {
            only_matches(rule, &["application_protocols"]).at("filter_chain_match")?;
            detected_http(rule).at("filter_chain_match")?
        }
    };
    match filter::terminal(&chain.filters)? {
        // They are of the workload that is called, and in force there.
        Terminal::Http(http) if !http.limits.is_empty() => Err(Fault::new(
            "limits are supported by this proxy only where it is called",
        )
        .at("http_filters")
        .at("filters[0].typed_config")),
        Terminal::Http(http) => found.add_http(http, detected),
        Terminal::Tcp(_) if detected => {
            Err(Fault::new("a chain for HTTP must end in an HttpConnectionManager").at("filters"))
        }
        Terminal::Tcp(tcp) => found.add_tcp(tcp.cluster),
    }
}

/// What the chains of a destination, or of an inbound port, amount to.
#[derive(Debug, Default)]
struct Found {
    http: Option<Http>,
    detected: bool,
    tcp: Option<Arc<str>>,
}

impl Found {
    fn add_http(&mut self, http: Http, detected: bool) -> Result<(), Fault> {
        if self.http.is_some() {
            return Err(Fault::new("there is another chain for HTTP already"));
        }
        self.detected = detected;
        self.http = Some(http);
        Ok(())
    }

    fn add_tcp(&mut self, cluster: Arc<str>) -> Result<(), Fault> {
        if self.tcp.is_some() {
            return Err(Fault::new("there is another chain for TCP already"));
        }
        self.tcp = Some(cluster);
        Ok(())
    }

    fn protocol(&self) -> Result<Protocol, Fault> {
        match (&self.http, self.detected, &self.tcp) {
            (Some(http), false, None) => Ok(http.protocol),
            (Some(_), true, Some(_)) => Ok(Protocol::Detect),
            (None, _, Some(_)) => Ok(Protocol::Tcp),
            (None, _, None) => Err(Fault::new("no chain says what to do").at("filter_chains")),
            (Some(_), true, None) => Err(Fault::new(
                "HTTP is detected, but no chain says what to do with anything else",
            )
            .at("filter_chains")),
            (Some(_), false, Some(_)) => Err(Fault::new(
                "a chain for HTTP and one for TCP match alike: the one for HTTP needs application_protocols",
            )
            .at("filter_chains")),
        }
    }
}

/// Whether a chain is for connections that turn out to be HTTP.
fn detected_http(rule: &FilterChainMatch) -> Result<bool, Fault> {
    match rule
        .application_protocols
        .iter()
        .find(|protocol| !DETECTED_HTTP.contains(&protocol.as_str()))
    {
        Some(other) => Err(
            Fault::new(format!("{other:?} is not supported by this proxy"))
                .at("application_protocols"),
        ),
        None => Ok(!rule.application_protocols.is_empty()),
    }
}

/// Refuses every condition that is not among `honoured`: a chain that ignored one would serve whom it must
/// not.
fn only_matches(rule: &FilterChainMatch, honoured: &[&str]) -> Result<(), Fault> {
    let conditions = [
        ("destination_port", rule.destination_port.is_some()),
        ("prefix_ranges", !rule.prefix_ranges.is_empty()),
        ("address_suffix", !rule.address_suffix.is_empty()),
        ("suffix_len", rule.suffix_len.is_some()),
        (
            "direct_source_prefix_ranges",
            !rule.direct_source_prefix_ranges.is_empty(),
        ),
        (
            "source_type",
            rule.source_type != ConnectionSourceType::Any as i32,
        ),
        (
            "source_prefix_ranges",
            !rule.source_prefix_ranges.is_empty(),
        ),
        ("source_ports", !rule.source_ports.is_empty()),
        ("server_names", !rule.server_names.is_empty()),
        ("transport_protocol", !rule.transport_protocol.is_empty()),
        (
            "application_protocols",
            !rule.application_protocols.is_empty(),
        ),
    ];
    for (field, set) in conditions {
        unsupported(field, set && !honoured.contains(&field))?;
    }
    Ok(())
}

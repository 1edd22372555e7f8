//! Messages as text for golden files: without what is absent, and with what is packed into `Any` shown.

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
        route::v3::RouteConfiguration,
    },
    extensions::{
        filters::{
            http::{fault::v3::HttpFault, router::v3::Router},
            listener::{http_inspector::v3::HttpInspector, tls_inspector::v3::TlsInspector},
            network::{
                http_connection_manager::v3::HttpConnectionManager, tcp_proxy::v3::TcpProxy,
            },
        },
        load_balancing_policies::{
            least_request::v3::LeastRequest, maglev::v3::Maglev, random::v3::Random,
            ring_hash::v3::RingHash, round_robin::v3::RoundRobin,
        },
        retry::host::previous_hosts::v3::PreviousHostsPredicate,
        transport_sockets::tls::v3::{DownstreamTlsContext, Secret, UpstreamTlsContext},
        upstreams::http::v3::HttpProtocolOptions,
    },
};
use prost::{Message, Name};
use regex::{Captures, Regex};
use weft_xds_proto::weft::v1::{
    ConcurrencyLimit, EndpointMetadata, PeakEwma, RateLimit, RetryExtension, ServiceMetadata,
    WorkloadMetadata,
};

type Decoder = fn(&str, &[u8]) -> Option<String>;

/// The text of an encoded message.
pub(super) fn message(url: &str, value: &[u8]) -> String {
    let decoders: &[Decoder] = &[
        decode::<Cluster>,
        decode::<ClusterLoadAssignment>,
        decode::<Listener>,
        decode::<RouteConfiguration>,
        decode::<Secret>,
        decode::<Router>,
        decode::<HttpInspector>,
        decode::<TlsInspector>,
        decode::<HttpConnectionManager>,
        decode::<TcpProxy>,
        decode::<DownstreamTlsContext>,
        decode::<UpstreamTlsContext>,
        decode::<HttpProtocolOptions>,
        decode::<HttpFault>,
        decode::<LeastRequest>,
        decode::<Maglev>,
        decode::<Random>,
        decode::<RingHash>,
        decode::<RoundRobin>,
        decode::<PreviousHostsPredicate>,
        decode::<ConcurrencyLimit>,
        decode::<RateLimit>,
        decode::<RetryExtension>,
        decode::<EndpointMetadata>,
        decode::<PeakEwma>,
        decode::<ServiceMetadata>,
        decode::<WorkloadMetadata>,
    ];
    decoders
        .iter()
        .find_map(|decode| decode(url, value))
        .unwrap_or_else(|| panic!("no decoder of {url}"))
}

fn decode<T: Message + Name + Default + std::fmt::Debug>(
    url: &str,
    value: &[u8],
) -> Option<String> {
    (T::type_url() == url).then(|| tidy(&format!("{:#?}", T::decode(value).unwrap())))
}

fn tidy(debug: &str) -> String {
    let mut text = String::new();
    let mut lines = debug.lines();
    while let Some(line) = lines.next() {
        let absent = ["None", "[]", "{}", "\"\"", "false", "0"];
        let is_absent = line
            .trim()
            .trim_end_matches(',')
            .split_once(": ")
            .is_some_and(|(_, value)| absent.contains(&value));
        if line.trim() == "Any {" || line.trim_end().ends_with(": Any {") {
            let any: Vec<_> = lines
                .by_ref()
                .take_while(|line| line.trim() != "},")
                .collect();
            let url = any[0].split('"').nth(1).unwrap();
            let bytes: Vec<u8> = any
                .iter()
                .filter_map(|line| line.trim().trim_end_matches(',').parse().ok())
                .collect();
            let indent = &line[..line.len() - line.trim_start().len()];
            let key = line.trim().strip_suffix("Any {").unwrap();
            text.push_str(&format!("{indent}{key}"));
            text.push_str(
                message(url, &bytes)
                    .replace('\n', &format!("\n{indent}"))
                    .trim_end(),
            );
            text.push_str(",\n");
        } else if !is_absent {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.truncate(text.trim_end().len());
    join_short(text)
}

/// Puts what is nested around a single short line onto that line, as often as it can.
fn join_short(mut text: String) -> String {
    let nested = Regex::new(r"([(\[{])\n *([^\n]*?),?\n *([)\]}])").unwrap();
    loop {
        let joined = nested.replace_all(&text, |found: &Captures<'_>| {
            let line = format!("{}{}{}", &found[1], &found[2], &found[3]);
            if line.len() > 90 {
                found[0].to_owned()
            } else {
                line
            }
        });
        if joined == text {
            return text;
        }
        text = joined.into_owned();
    }
}

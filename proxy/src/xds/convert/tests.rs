//! One file per kind of resource: a message as Weft's control plane sends it, what becomes of it, and what
//! becomes of it when one field is wrong.

mod breaker;
mod cluster;
mod dns;
mod endpoints;
mod limits;
mod listener;
mod retry;
mod route;
mod secret;

pub(in crate::xds) use listener::permissive as inbound_listener;

use prost::Name;
use weft_xds_proto::envoy::{
    envoy::config::core::v3::{
        Address, AggregatedConfigSource, ConfigSource, Metadata, SocketAddress, address,
        config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
    },
    google::protobuf::{Any, Duration as ProtoDuration, UInt32Value},
};

pub(in crate::xds) fn any<M: Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

pub(in crate::xds) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    })
}

pub(in crate::xds) fn own_metadata<M: Name>(message: &M) -> Option<Metadata> {
    Some(Metadata {
        typed_filter_metadata: [("weft.dev".to_owned(), any(message))].into(),
        ..Metadata::default()
    })
}

pub(in crate::xds) fn seconds(seconds: i64) -> Option<ProtoDuration> {
    Some(ProtoDuration { seconds, nanos: 0 })
}

pub(in crate::xds) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(in crate::xds) fn address(ip: &str, port: u32) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: ip.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..SocketAddress::default()
        })),
    })
}

//! Small pieces of xDS messages, named once.

use crate::world::quantity::Share;
use envoy_types::{
    pb::{
        envoy::{
            config::core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, Metadata,
                SocketAddress, TransportSocket, address::Address as AddressKind,
                config_source::ConfigSourceSpecifier, data_source::Specifier, socket_address,
                transport_socket,
            },
            r#type::v3::{FractionalPercent, Percent, fractional_percent::DenominatorType},
        },
        google::protobuf::{Any, BoolValue, Duration, UInt32Value, UInt64Value},
    },
    util::pack_any,
};
use prost::{Message, Name};
use std::{net::SocketAddr, num::NonZeroU32};
use weft_xds_proto::names::METADATA_KEY;

/// A time limit, where absence means none: xDS says that with zero, as absence means its own default.
pub(super) fn limit(duration: Option<std::time::Duration>) -> Option<Duration> {
    Some(self::duration(duration.unwrap_or_default()))
}

pub(super) fn duration(duration: std::time::Duration) -> Duration {
    Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("less than a billion"),
    }
}

/// A percentage with fractions, exact to a millionth.
pub(super) fn percent(share: Share) -> Option<Percent> {
    Some(Percent {
        value: share.as_percent(),
    })
}

/// Some of all requests, exact to a millionth.
pub(super) fn fraction(share: Share) -> FractionalPercent {
    FractionalPercent {
        numerator: share.millionths(),
        denominator: DenominatorType::Million.into(),
    }
}

pub(super) fn number(value: impl Into<u32>) -> Option<UInt32Value> {
    Some(UInt32Value {
        value: value.into(),
    })
}

pub(super) fn limit_of(value: NonZeroU32) -> Option<UInt32Value> {
    number(value.get())
}

/// A number that has room for more than it needs.
pub(super) fn wide_number(value: impl Into<u64>) -> Option<UInt64Value> {
    Some(UInt64Value {
        value: value.into(),
    })
}

pub(super) fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

/// "Ask on this very stream."
pub(super) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    })
}

pub(super) fn file(path: String) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(Specifier::Filename(path)),
        ..DataSource::default()
    })
}

pub(super) fn address(address: SocketAddr) -> Option<Address> {
    host(&address.ip().to_string(), address.port())
}

/// A host by name or address, and a port of it.
pub(super) fn host(host: &str, port: u16) -> Option<Address> {
    Some(Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    })
}

/// Weft's own message in the metadata of an Envoy resource.
pub(super) fn metadata<T: Message + Name>(message: T) -> Metadata {
    Metadata {
        typed_filter_metadata: [(METADATA_KEY.to_owned(), pack_any(message))].into(),
        ..Metadata::default()
    }
}

pub(super) fn tls<T: Message + Name>(context: T) -> Option<TransportSocket> {
    Some(TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack_any(context))),
    })
}

pub(super) fn any<T: Message + Name>(message: T) -> Any {
    pack_any(message)
}

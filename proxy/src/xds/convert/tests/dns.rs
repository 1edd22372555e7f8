use super::any;
use crate::xds::{
    convert::cluster::{ClusterConfig, EndpointSource, convert},
    dns::{Family, Host},
};
use std::sync::Arc;
use weft_xds_proto::envoy::envoy::config::{
    cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily},
    },
    core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier},
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
        lb_endpoint::HostIdentifier,
    },
};

const NAME: &str = "db.demo.svc.cluster.local:5432";

fn converted(cluster: &Cluster) -> Arc<ClusterConfig> {
    convert(NAME, &any(cluster)).unwrap()
}

fn refused(cluster: &Cluster) -> String {
    convert(NAME, &any(cluster)).unwrap_err().to_string()
}

fn dns(name: &str, port: u32) -> Cluster {
    let address = Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: name.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..SocketAddress::default()
        })),
    };
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into())),
        load_assignment: Some(ClusterLoadAssignment {
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![endpoint],
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        }),
        name: NAME.to_owned(),
        ..Cluster::default()
    }
}

#[test]
fn a_dns_cluster_names_the_host_to_ask_for() {
    let family = |family: DnsLookupFamily| Cluster {
        dns_lookup_family: family.into(),
        ..dns("DB.example", 5432)
    };
    for (asked, expected) in [
        (DnsLookupFamily::Auto, Family::V6Preferred),
        (DnsLookupFamily::V4Only, Family::V4),
        (DnsLookupFamily::V6Only, Family::V6),
        (DnsLookupFamily::V4Preferred, Family::V4Preferred),
        (DnsLookupFamily::All, Family::Both),
    ] {
        assert_eq!(
            converted(&family(asked)).endpoints,
            EndpointSource::Dns(Host {
                name: "db.example".into(),
                port: 5432,
                family: expected,
            })
        );
    }
}

#[test]
fn a_dns_cluster_that_names_no_host_is_refused() {
    let at = "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address";
    for (cluster, reason) in [
        (dns("", 80), format!("{at}.address: must not be empty")),
        (
            dns("db.example", 0),
            format!("{at}.port_value: must be a number from 1 to 65535"),
        ),
        (
            Cluster {
                load_assignment: None,
                ..dns("db.example", 80)
            },
            "load_assignment: is required".to_owned(),
        ),
        (
            Cluster {
                load_assignment: Some(ClusterLoadAssignment::default()),
                ..dns("db.example", 80)
            },
            "load_assignment.endpoints: must have one endpoint, the host to ask DNS for".to_owned(),
        ),
    ] {
        assert_eq!(refused(&cluster), format!("Cluster {NAME:?}: {reason}"));
    }
}

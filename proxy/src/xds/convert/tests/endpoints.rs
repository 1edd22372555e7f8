use super::{address, any, number, own_metadata};
use crate::{
    snapshot::{Endpoint, WorkloadName},
    xds::convert::endpoints::convert,
};
use std::{num::NonZeroU32, sync::Arc};
use weft_xds_proto::{
    envoy::envoy::config::{
        core::v3::{HealthStatus, Locality},
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint as ProtoEndpoint, LbEndpoint, LocalityLbEndpoints,
            lb_endpoint::HostIdentifier,
        },
    },
    weft::v1::EndpointMetadata,
};

const NAME: &str = "user.demo.svc.cluster.local:80";
const USER: &str = "spiffe://cluster.local/ns/demo/sa/user";

fn endpoint(ip: &str, identity: &str) -> LbEndpoint {
    LbEndpoint {
        metadata: own_metadata(&EndpointMetadata {
            identity: identity.to_owned(),
            workload: "user".to_owned(),
            namespace: "demo".to_owned(),
        }),
        host_identifier: Some(HostIdentifier::Endpoint(ProtoEndpoint {
            address: address(ip, 8080),
            ..ProtoEndpoint::default()
        })),
        ..LbEndpoint::default()
    }
}

fn locality(zone: &str, endpoints: Vec<LbEndpoint>) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(Locality {
            zone: zone.to_owned(),
            ..Locality::default()
        }),
        lb_endpoints: endpoints,
        ..LocalityLbEndpoints::default()
    }
}

fn of(endpoints: Vec<LocalityLbEndpoints>) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: NAME.to_owned(),
        endpoints,
        ..ClusterLoadAssignment::default()
    }
}

/// One endpoint of the mesh and one outside.
pub(super) fn assignment() -> ClusterLoadAssignment {
    of(vec![
        locality("a", vec![endpoint("10.0.0.1", USER)]),
        locality("b", vec![endpoint("::ffff:10.0.0.2", "")]),
    ])
}

fn expected(ip: &str, zone: &str, identity: Option<&str>) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: format!("{ip}:8080").parse().unwrap(),
        identity: identity.map(|id| id.parse().unwrap()),
        workload: WorkloadName {
            name: "user".into(),
            namespace: "demo".into(),
        },
        weight: NonZeroU32::MIN,
        zone: zone.into(),
    })
}

fn converted(assignment: &ClusterLoadAssignment) -> Vec<Arc<Endpoint>> {
    convert(NAME, &any(assignment)).unwrap().to_vec()
}

#[test]
fn endpoints_have_their_identity_zone_and_workload() {
    assert_eq!(
        converted(&assignment()),
        [
            expected("10.0.0.1", "a", Some(USER)),
            expected("10.0.0.2", "b", None)
        ]
    );
}

#[test]
fn an_endpoint_without_metadata_is_an_unknown_workload_in_plaintext() {
    let bare = LbEndpoint {
        metadata: None,
        load_balancing_weight: number(3),
        ..endpoint("10.0.0.1", "")
    };
    let unzoned = LocalityLbEndpoints {
        locality: None,
        ..locality("", vec![bare])
    };
    assert_eq!(
        converted(&of(vec![unzoned])),
        [Arc::new(Endpoint {
            workload: WorkloadName::unknown(),
            weight: NonZeroU32::new(3).unwrap(),
            ..Endpoint::clone(&expected("10.0.0.1", "", None))
        })]
    );
}

#[test]
fn unfit_endpoints_are_left_out() {
    let with_health = |ip: &str, health: HealthStatus| LbEndpoint {
        health_status: health.into(),
        ..endpoint(ip, USER)
    };
    let endpoints = vec![
        with_health("10.0.0.1", HealthStatus::Healthy),
        with_health("10.0.0.2", HealthStatus::Unhealthy),
        with_health("10.0.0.3", HealthStatus::Draining),
        with_health("10.0.0.4", HealthStatus::Timeout),
        with_health("10.0.0.5", HealthStatus::Degraded),
    ];
    assert_eq!(
        converted(&of(vec![locality("a", endpoints)])),
        [
            expected("10.0.0.1", "a", Some(USER)),
            expected("10.0.0.5", "a", Some(USER))
        ]
    );
}

#[test]
fn only_the_best_priority_that_has_endpoints_is_taken() {
    let with_priority = |priority, endpoints| LocalityLbEndpoints {
        priority,
        ..locality("a", endpoints)
    };
    let assignment = of(vec![
        with_priority(2, vec![endpoint("10.0.0.3", USER)]),
        with_priority(1, vec![endpoint("10.0.0.2", USER)]),
        with_priority(0, vec![]),
    ]);
    assert_eq!(
        converted(&assignment),
        [expected("10.0.0.2", "a", Some(USER))]
    );
}

#[test]
fn what_is_wrong_is_named() {
    let at = |endpoint| of(vec![locality("a", vec![endpoint])]);
    let cases = [
        (
            at(endpoint("10.0.0.1", "user")),
            "metadata.typed_filter_metadata[\"weft.dev\"].identity: \"user\" is not a workload identity (the scheme is not spiffe); expected spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>",
        ),
        (
            at(endpoint("user.demo", "")),
            "endpoint.address.socket_address.address: must be an IP address, got \"user.demo\"",
        ),
        (
            at(LbEndpoint {
                host_identifier: Some(HostIdentifier::Endpoint(ProtoEndpoint {
                    address: address("10.0.0.1", 0),
                    ..ProtoEndpoint::default()
                })),
                ..LbEndpoint::default()
            }),
            "endpoint.address.socket_address.port_value: must be a number from 1 to 65535",
        ),
        (
            at(LbEndpoint {
                host_identifier: None,
                ..LbEndpoint::default()
            }),
            "host_identifier: is required",
        ),
        (
            at(LbEndpoint {
                load_balancing_weight: number(0),
                ..endpoint("10.0.0.1", "")
            }),
            "load_balancing_weight: must be > 0, got 0",
        ),
    ];
    for (assignment, expected) in cases {
        let error = convert(NAME, &any(&assignment)).unwrap_err().to_string();
        let prefix = format!("ClusterLoadAssignment {NAME:?}: endpoints[0].lb_endpoints[0].");
        assert_eq!(error, format!("{prefix}{expected}"));
    }
}

#[test]
fn one_address_twice_is_refused() {
    let twice = of(vec![locality(
        "a",
        vec![endpoint("10.0.0.1", USER), endpoint("10.0.0.1", "")],
    )]);
    assert_eq!(
        convert(NAME, &any(&twice)).unwrap_err().to_string(),
        format!(
            "ClusterLoadAssignment {NAME:?}: endpoints[0].lb_endpoints[1]: 10.0.0.1:8080 is already at endpoints[0].lb_endpoints[0]"
        )
    );
}

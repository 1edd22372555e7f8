//! The real control plane over loopback: clients of both protocol variants, and certificates.

mod bench;

use bench::{Bench, Delta, Identity, SERVICE, Sotw, csr, node};
use tonic::Code;
use weft_control_plane::ca::token::Subject;
use weft_xds_proto::{
    exchange::{Rejection, WILDCARD},
    names,
    resource::ResourceType::{Cluster, Endpoints, Listener, Route, Secret},
};

#[tokio::test]
async fn a_sidecar_gets_what_it_asks_for_and_every_change_of_it() {
    let bench = Bench::start().await;
    bench.write_service("user", 80, &["10.0.1.5"]);
    let mut sidecar = Delta::connect(&bench, "weft-proxy", Identity::Token).await;
    for ty in [Cluster, Endpoints, Listener, Route] {
        sidecar.subscribe(ty, SERVICE);
    }
    sidecar.subscribe(Secret, names::ROOT_SECRET);
    sidecar
        .until("everything is there", |sidecar| {
            [Cluster, Endpoints, Listener, Route]
                .iter()
                .all(|ty| sidecar.holds(*ty, SERVICE))
                && sidecar.holds(Secret, names::ROOT_SECRET)
        })
        .await;

    sidecar.log.clear();
    bench.write_service("user", 80, &["10.0.1.5", "10.0.1.6"]);
    bench.write_service("other", 80, &["10.0.2.5"]);
    sidecar
        .until("the endpoints changed", |sidecar| !sidecar.log.is_empty())
        .await;
    assert_eq!(sidecar.log, [format!("endpoints +{SERVICE}")]);
    let event_to_ack = "weft_xds_event_to_ack_seconds_count{dialect=\"weft\"}";
    bench.until_metric(event_to_ack, |count| count >= 1.0).await;

    sidecar.log.clear();
    bench.remove_service("user");
    sidecar
        .until("all of it is gone", |sidecar| sidecar.log.len() == 4)
        .await;
    assert_eq!(
        sidecar.log,
        ["route", "listener", "endpoints", "cluster"].map(|ty| format!("{ty} -{SERVICE}"))
    );
}

#[tokio::test]
async fn what_does_not_exist_is_answered_at_once_and_told_when_it_comes() {
    let bench = Bench::start().await;
    let mut sidecar = Delta::connect(&bench, "weft-proxy", Identity::Token).await;
    sidecar.subscribe(Listener, "10.96.0.1:80");
    sidecar
        .until("an answer", |sidecar| !sidecar.log.is_empty())
        .await;
    assert_eq!(sidecar.log, ["listener -10.96.0.1:80"]);
    bench.write_service("user", 80, &["10.0.1.5"]);
    sidecar
        .until("it exists", |sidecar| {
            sidecar.holds(Listener, "10.96.0.1:80")
        })
        .await;
}

#[tokio::test]
async fn after_a_restart_only_what_changed_meanwhile_is_sent() {
    let mut bench = Bench::start().await;
    bench.write_service("user", 80, &["10.0.1.5"]);
    let mut sidecar = Delta::connect(&bench, "weft-proxy", Identity::Token).await;
    for ty in [Cluster, Endpoints, Listener, Route] {
        sidecar.subscribe(ty, SERVICE);
    }
    sidecar.subscribe(Secret, names::ROOT_SECRET);
    sidecar.subscribe(Listener, "ghost:80");
    sidecar
        .until("everything is there", |sidecar| {
            [Cluster, Endpoints, Listener, Route]
                .iter()
                .all(|ty| sidecar.holds(*ty, SERVICE))
                && sidecar.holds(Secret, names::ROOT_SECRET)
                && sidecar.log.contains(&"listener -ghost:80".to_owned())
        })
        .await;

    bench.stop().await;
    bench.write_service("user", 80, &["10.0.1.9"]);
    bench.restart().await;
    sidecar.log.clear();
    sidecar.reconnect(&bench).await;
    sidecar
        .until("the new endpoints", |sidecar| sidecar.log.len() >= 2)
        .await;
    // Routes come last: what this answer does not follow is not coming.
    sidecar.subscribe(Route, "ghost:80");
    sidecar
        .until("the last answer", |sidecar| sidecar.log.len() >= 3)
        .await;
    assert_eq!(
        sidecar.log,
        [
            format!("endpoints +{SERVICE}"),
            // Nothing was held under this name, so it is an answer like the first.
            "listener -ghost:80".to_owned(),
            "route -ghost:80".to_owned(),
        ]
    );
}

#[tokio::test]
async fn an_envoy_gets_everything_in_either_variant() {
    let bench = Bench::start().await;
    bench.write_service("user", 80, &["10.0.1.5"]);
    let mut delta = Delta::connect(&bench, "envoy", Identity::Plaintext).await;
    let mut sotw = Sotw::connect(&bench, "envoy").await;
    delta.subscribe(Cluster, WILDCARD);
    sotw.subscribe(Cluster, WILDCARD);
    delta
        .until("its clusters", |envoy| envoy.holds(Cluster, SERVICE))
        .await;
    sotw.until("its clusters", |clusters| clusters == [SERVICE])
        .await;

    let other = "other.demo.svc.cluster.local:80";
    bench.write_service("other", 80, &["10.0.2.5"]);
    delta
        .until("the new cluster", |envoy| envoy.holds(Cluster, other))
        .await;
    sotw.until("the new cluster", |clusters| clusters == [other, SERVICE])
        .await;
    bench.remove_service("user");
    delta
        .until("the old one gone", |envoy| !envoy.holds(Cluster, SERVICE))
        .await;
    sotw.until("the old one gone", |clusters| clusters == [other])
        .await;
}

#[tokio::test]
async fn a_refusal_is_counted_and_kept_with_resource_and_reason() {
    let bench = Bench::start().await;
    bench.write_service("user", 80, &["10.0.1.5"]);
    let mut sidecar = Delta::connect(&bench, "weft-proxy", Identity::Token).await;
    sidecar.reject = Some(Rejection {
        name: SERVICE.to_owned(),
        field: "lb_policy".to_owned(),
        reason: "not today".to_owned(),
    });
    sidecar.subscribe(Cluster, SERVICE);
    sidecar
        .until("an answer", |sidecar| !sidecar.log.is_empty())
        .await;
    let nacks = "weft_xds_nacks_total{dialect=\"weft\",resource=\"cluster\"}";
    bench.until_metric(nacks, |count| count == 1.0).await;
    let kept = bench.get("/debug/nacks").await;
    for part in [SERVICE, "lb_policy: not today", "user-0.demo", "cluster"] {
        assert!(kept.contains(part), "{part} is missing in {kept}");
    }
}

#[tokio::test]
async fn a_certificate_is_had_for_a_token_and_renewed_by_itself() {
    let bench = Bench::start().await;
    let mut by_token = bench.csr_client(&Identity::Token).await;
    let (request, key) = csr(Some("spiffe://cluster.local/ns/demo/sa/user"));
    let chain = by_token
        .sign(&bench, Identity::Token, request)
        .await
        .unwrap();
    assert_eq!(chain.last(), Some(&bench.roots()));

    let certificate = Identity::Certificate { chain, key };
    let mut by_certificate = bench.csr_client(&certificate).await;
    let (request, _) = csr(None);
    let renewed = by_certificate
        .sign(&bench, certificate.clone(), request)
        .await;
    assert_eq!(renewed.unwrap().last(), Some(&bench.roots()));

    bench.write_service("user", 80, &["10.0.1.5"]);
    let mut sidecar = Delta::connect(&bench, "weft-proxy", certificate).await;
    sidecar.subscribe(Cluster, SERVICE);
    sidecar
        .until("a cluster", |sidecar| sidecar.holds(Cluster, SERVICE))
        .await;
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_refused_and_both_are_named() {
    let bench = Bench::start().await;
    let (request, _) = csr(Some("spiffe://cluster.local/ns/demo/sa/admin"));
    let mut client = bench.csr_client(&Identity::Token).await;
    let refused = client
        .sign(&bench, Identity::Token, request)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    for id in ["sa/admin", "sa/user"] {
        assert!(refused.message().contains(id), "{refused}");
    }
    bench
        .until_metric("weft_csr_refused_total", |count| count == 1.0)
        .await;
}

#[tokio::test]
async fn a_caller_that_proves_nothing_is_refused() {
    let bench = Bench::start().await;
    for identity in [
        Identity::Nobody,
        Identity::Bearer("nonsense".to_owned()),
        Identity::Bearer(bench.expired_token()),
    ] {
        let mut client = bench.csr_client(&identity).await;
        let refused = client
            .sign(&bench, identity.clone(), csr(None).0)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{identity:?}");
        assert!(refused.message().contains("token"), "{refused}");
        let refused = Delta::try_connect(&bench, "weft-proxy", identity)
            .await
            .err()
            .unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_sidecar_cannot_pose_as_another_pod() {
    let bench = Bench::start().await;
    let token = bench.token(&Subject {
        namespace: "demo".to_owned(),
        service_account: "user".to_owned(),
        pod: "somebody-else".to_owned(),
    });
    let mut sidecar = Delta::connect(&bench, "weft-proxy", Identity::Bearer(token)).await;
    sidecar.subscribe(Cluster, SERVICE);
    let refused = sidecar.refusal().await;
    assert_eq!(refused.code(), Code::PermissionDenied);
    let node = node("weft-proxy").id;
    assert!(
        refused.message().contains(&node) && refused.message().contains("demo/somebody-else"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_stream_that_reads_nothing_delays_nobody() {
    let bench = Bench::start().await;
    bench.write_service("user", 80, &["10.0.1.5"]);
    let mut idle = Delta::connect(&bench, "weft-proxy", Identity::Token).await;
    idle.subscribe(Endpoints, SERVICE);
    idle.send().await;
    let mut reading = Delta::connect(&bench, "weft-proxy", Identity::Token).await;
    reading.subscribe(Endpoints, SERVICE);
    for last in 1..50 {
        let address = format!("10.0.1.{last}");
        bench.write_service("user", 80, &[&address]);
        reading
            .until("the change", |sidecar| {
                sidecar.holds_text(Endpoints, SERVICE, &address)
            })
            .await;
    }
}

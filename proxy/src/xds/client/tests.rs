//! The client against a fake control plane, over real connections.

mod fake;

use self::fake::FakeControlPlane;
use super::*;
use crate::{
    error::RequestError,
    snapshot::{DestinationHandle, MtlsMode},
    tls::{Authorities, CertificateSource as _, Identity, rotation, source::Csr, testing::TestCa},
    xds::{Resolution, convert::tests::seconds},
};
use std::path::Path;
use weft_xds_proto::envoy::envoy::config::cluster::v3::Cluster;

const USER: &str = "user.demo.svc.cluster.local:80";
const ORDER: &str = "order.demo.svc.cluster.local:80";
const ID: &str = "spiffe://cluster.local/ns/demo/sa/user";

struct Setup {
    fake: FakeControlPlane,
    destinations: Destinations,
    control_plane: ControlPlane,
    files: tempfile::TempDir,
}

async fn start() -> Setup {
    start_with(Config {
        namespace: "demo".to_owned(),
        pod: "user-0".to_owned(),
        destination_timeout: Duration::from_secs(20),
        destination_idle: Duration::from_secs(300),
    })
    .await
}

async fn start_with(config: Config) -> Setup {
    let files = tempfile::tempdir().unwrap();
    let ca = TestCa::root("mesh");
    write(files.path(), "ca.pem", ca.root_pem());
    write(files.path(), "token", "token\n");
    let fake = FakeControlPlane::start(ca).await;
    let control_plane = ControlPlane {
        host: "127.0.0.1".to_owned(),
        port: fake.address.port(),
        server_name: "127.0.0.1".to_owned(),
        authorities: Authorities::at(files.path().join("ca.pem")),
        token: files.path().join("token"),
        identity: Identity::new(),
    };
    let (destinations, client) = Client::new(config, control_plane.clone());
    tokio::spawn(client.run());
    Setup {
        fake,
        destinations,
        control_plane,
        files,
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).unwrap();
}

impl Setup {
    async fn known(&self, name: &str) -> Arc<DestinationHandle> {
        match self.destinations.resolve(name).await.unwrap() {
            Resolution::Known(handle) => handle,
            Resolution::Unknown => panic!("{name} is unknown"),
        }
    }
}

/// The addresses of an opaque destination.
fn addresses(handle: &DestinationHandle) -> Vec<String> {
    let destination = handle.load();
    let endpoints = &destination.tcp.as_ref().unwrap().endpoints;
    endpoints
        .iter()
        .map(|endpoint| endpoint.address.to_string())
        .collect()
}

/// Polls a value that has no event of its own.
async fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn names(requests: &[(usize, DeltaDiscoveryRequest)], ty: ResourceType) -> Vec<String> {
    requests
        .iter()
        .filter(|(_, request)| request.type_url == ty.url())
        .flat_map(|(_, request)| request.resource_names_subscribe.clone())
        .collect()
}

#[tokio::test]
async fn a_destination_is_followed_when_somebody_asks_for_it() {
    let setup = start().await;
    setup.fake.set_tcp(USER, "10.0.0.1:80");
    setup.fake.set_tcp(ORDER, "10.0.0.2:80");
    let (one, other) = tokio::join!(setup.known(USER), setup.known(USER));
    assert!(Arc::ptr_eq(&one, &other));
    assert_eq!(addresses(&one), ["10.0.0.1:80"]);
    assert!(Arc::ptr_eq(&one, &setup.destinations.get(USER).unwrap()));
    assert!(setup.destinations.get(ORDER).is_none());

    let seen = setup.fake.until(|_| true).await;
    assert_eq!(
        names(&seen.requests, ResourceType::Listener),
        ["inbound/demo/user-0", USER],
        "only what is needed, and once"
    );
    let node = seen.requests[0].1.node.clone().unwrap();
    assert_eq!(
        (node.id.as_str(), node.user_agent_name.as_str()),
        ("user-0.demo", "weft-proxy")
    );
}

#[tokio::test]
async fn changes_reach_those_who_hold_the_destination() {
    let setup = start().await;
    setup.fake.set_tcp(USER, "10.0.0.1:80");
    let handle = setup.known(USER).await;
    setup.fake.set_endpoint(USER, "2", "10.0.0.2:80");
    eventually(|| addresses(&handle) == ["10.0.0.2:80"]).await;

    setup.fake.remove(ResourceType::Listener, USER);
    eventually(|| addresses(&handle).is_empty()).await;
    assert!(matches!(
        setup.destinations.resolve(USER).await,
        Ok(Resolution::Unknown)
    ));

    setup.fake.set_tcp(USER, "10.0.0.3:80");
    eventually(|| addresses(&handle) == ["10.0.0.3:80"]).await;
    assert!(Arc::ptr_eq(&handle, &setup.known(USER).await));
}

#[tokio::test]
async fn a_name_without_a_destination_is_unknown_until_there_is_one() {
    let setup = start().await;
    assert!(matches!(
        setup.destinations.resolve(USER).await,
        Ok(Resolution::Unknown)
    ));
    setup.fake.set_tcp(USER, "10.0.0.1:80");
    eventually(|| setup.destinations.get(USER).is_some()).await;
}

#[tokio::test]
async fn what_is_invalid_is_refused_by_name_and_its_siblings_are_applied() {
    let setup = start().await;
    setup.fake.set_tcp(USER, "10.0.0.1:80");
    setup.fake.set_tcp(ORDER, "10.0.0.2:80");
    let invalid = Cluster {
        connect_timeout: seconds(-1),
        ..fake::cluster(ORDER)
    };
    setup.fake.set(ResourceType::Cluster, ORDER, "1", &invalid);
    let (good, bad) = tokio::join!(setup.known(USER), setup.destinations.resolve(ORDER));
    assert_eq!(addresses(&good), ["10.0.0.1:80"]);
    assert_eq!(bad.unwrap_err(), RequestError::ConfigUnavailable);
    let seen = setup.fake.until(|seen| nacks(seen).len() == 1).await;
    assert_eq!(
        nacks(&seen),
        [format!("{ORDER}: connect_timeout: must be > 0, got -1s")]
    );

    // The last good version stays in force.
    setup
        .fake
        .set(ResourceType::Cluster, ORDER, "2", &fake::cluster(ORDER));
    eventually(|| setup.destinations.get(ORDER).is_some()).await;
    let handle = setup.known(ORDER).await;
    setup.fake.set(ResourceType::Cluster, ORDER, "3", &invalid);
    setup.fake.until(|seen| nacks(seen).len() == 2).await;
    assert_eq!(addresses(&handle), ["10.0.0.2:80"]);
    let dump = setup.destinations.dump();
    let held = dump["clusters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|cluster| cluster["name"] == ORDER)
        .unwrap();
    assert_eq!(
        (
            &held["version"],
            &held["refused"]["version"],
            &held["refused"]["reason"]
        ),
        (
            &"2".into(),
            &"3".into(),
            &format!("Cluster {ORDER:?}: connect_timeout: must be > 0, got -1s").into()
        )
    );
}

/// The messages of all NACKs.
fn nacks(seen: &fake::Seen) -> Vec<&str> {
    seen.requests
        .iter()
        .filter_map(|(_, request)| Some(request.error_detail.as_ref()?.message.as_str()))
        .collect()
}

#[tokio::test]
async fn while_the_control_plane_is_away_everything_stays_and_then_only_changes_come() {
    let mut setup = start_with(Config {
        namespace: "demo".to_owned(),
        pod: "user-0".to_owned(),
        destination_timeout: Duration::from_millis(2000),
        destination_idle: Duration::from_secs(300),
    })
    .await;
    setup.fake.set_tcp(USER, "10.0.0.1:80");
    let handle = setup.known(USER).await;
    setup
        .fake
        .until(|seen| acknowledged(&seen.requests, ResourceType::Endpoints))
        .await;
    setup.fake.stop().await;
    eventually(|| setup.destinations.status().connected_to.is_none()).await;
    assert!(setup.destinations.status().last_error.is_some());

    assert_eq!(addresses(&*setup.known(USER).await), ["10.0.0.1:80"]);
    assert_eq!(
        setup.destinations.resolve(ORDER).await.unwrap_err(),
        RequestError::ConfigUnavailable
    );
    setup.fake.set_endpoint(USER, "2", "10.0.0.2:80");
    setup.fake.restart().await;
    eventually(|| addresses(&handle) == ["10.0.0.2:80"]).await;

    let applied = setup.destinations.status().types;
    assert_eq!(applied[ResourceType::Cluster as usize].applied, 1);
    assert_eq!(applied[ResourceType::Endpoints as usize].applied, 2);
    let seen = setup.fake.until(|_| true).await;
    let second = seen.streams.len();
    let first_of = |ty: ResourceType| {
        let mut requests = seen.requests.iter();
        let of_type =
            requests.find(|(number, request)| *number == second && request.type_url == ty.url());
        of_type.unwrap().1.initial_resource_versions.clone()
    };
    assert_eq!(
        first_of(ResourceType::Cluster),
        [(USER.to_owned(), "1".to_owned())].into()
    );
    assert_eq!(
        first_of(ResourceType::Endpoints),
        [(USER.to_owned(), "1".to_owned())].into()
    );
}

fn acknowledged(requests: &[(usize, DeltaDiscoveryRequest)], ty: ResourceType) -> bool {
    requests
        .iter()
        .any(|(_, request)| request.type_url == ty.url() && !request.response_nonce.is_empty())
}

#[tokio::test]
async fn a_destination_that_nobody_uses_or_holds_is_forgotten_with_all_that_it_needs() {
    let setup = start_with(Config {
        namespace: "demo".to_owned(),
        pod: "user-0".to_owned(),
        destination_timeout: Duration::from_secs(20),
        destination_idle: Duration::ZERO,
    })
    .await;
    setup.fake.set_tcp(USER, "10.0.0.1:80");
    setup.fake.set_tcp(ORDER, "10.0.0.2:80");
    let held = setup.known(USER).await;
    drop(setup.known(ORDER).await);
    let dropped = |seen: &fake::Seen, ty: ResourceType| -> Vec<String> {
        let of_type = seen
            .requests
            .iter()
            .filter(|(_, request)| request.type_url == ty.url());
        of_type
            .flat_map(|(_, request)| request.resource_names_unsubscribe.clone())
            .collect()
    };
    let types = [
        ResourceType::Listener,
        ResourceType::Cluster,
        ResourceType::Endpoints,
    ];
    setup
        .fake
        .until(|seen| types.iter().all(|ty| dropped(seen, *ty) == [ORDER]))
        .await;
    assert!(setup.destinations.get(ORDER).is_none());

    drop(held);
    setup
        .fake
        .until(|seen| types.iter().all(|ty| dropped(seen, *ty) == [ORDER, USER]))
        .await;
    // And it is there again when somebody asks again.
    assert_eq!(addresses(&*setup.known(USER).await), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn after_a_goodbye_the_client_is_back_at_once() {
    let setup = start().await;
    setup.fake.until(|seen| !seen.requests.is_empty()).await;
    let began = Instant::now();
    setup.fake.say_goodbye();
    setup.fake.until(|seen| seen.streams.len() == 2).await;
    assert!(began.elapsed() < RECONNECT_CAP / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_token_proves_who_we_are_until_there_is_a_certificate() {
    let setup = start().await;
    setup.fake.until(|seen| !seen.streams.is_empty()).await;
    let source = Csr::new(setup.control_plane.clone(), ID.parse().unwrap(), None);
    let identity = setup.control_plane.identity.clone();
    tokio::spawn(rotation::run(
        source,
        identity.clone(),
        Arc::new(SystemTime::now),
    ));
    let credentials = identity.ready().await;
    assert_eq!(credentials.id.as_str(), ID);

    setup.fake.say_goodbye();
    let seen = setup.fake.until(|seen| seen.streams.len() == 2).await;
    assert_eq!(seen.streams, [Some("Bearer token".to_owned()), None]);

    // And a renewal needs no token any more.
    std::fs::remove_file(&setup.control_plane.token).unwrap();
    let mut source = Csr::new(
        setup.control_plane.clone(),
        ID.parse().unwrap(),
        Some(Duration::from_secs(10)),
    );
    let renewed = source.obtain().await.unwrap();
    let renewed = identity
        .install(renewed, source.requested(), SystemTime::now())
        .unwrap();
    assert!(renewed.not_after < credentials.not_after);
}

#[tokio::test]
async fn a_token_that_is_refused_is_read_again() {
    let setup = start().await;
    setup.fake.until(|seen| !seen.streams.is_empty()).await;
    write(setup.files.path(), "token", "stale");
    setup.fake.say_goodbye();
    setup.fake.until(|seen| seen.streams.len() == 2).await;
    eventually(|| {
        let status = setup.destinations.status();
        status
            .last_error
            .is_some_and(|error| error.contains("not my token"))
    })
    .await;
    write(setup.files.path(), "token", "token");
    eventually(|| setup.destinations.status().connected_to.is_some()).await;
}

#[tokio::test]
async fn the_proxy_is_ready_when_its_inbound_side_is_there() {
    let setup = start().await;
    assert!(!setup.destinations.is_ready());
    assert_eq!(
        setup.destinations.inbound().port(80).mtls,
        MtlsMode::Strict,
        "nobody has allowed plaintext yet"
    );
    let name = "inbound/demo/user-0";
    let inbound = crate::xds::convert::tests::inbound_listener(name);
    setup.fake.set(ResourceType::Listener, name, "1", &inbound);
    setup.destinations.ready().await;
    assert_eq!(
        setup.destinations.inbound().port(80).mtls,
        MtlsMode::Permissive
    );
}

#[tokio::test]
async fn a_control_plane_with_a_foreign_certificate_is_not_trusted() {
    let setup = start().await;
    setup.fake.until(|seen| !seen.streams.is_empty()).await;
    let stranger = TestCa::root("stranger");
    write(setup.files.path(), "ca.pem", stranger.root_pem());
    let error = setup
        .control_plane
        .connect(Proof::Token)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("{} (as \"127.0.0.1\"): ", setup.fake.address))
            && error.contains("UnknownIssuer"),
        "{error}"
    );
}

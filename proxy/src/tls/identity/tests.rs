use super::*;
use crate::tls::testing::{Leaf, TestCa};
use std::time::Duration;

const USER: &str = "spiffe://cluster.local/ns/demo/sa/user";

fn roots(of: &[&TestCa]) -> Roots {
    Roots::new(of.iter().map(|ca| ca.root_certificate())).unwrap()
}

fn install(identity: &Identity, ca: &TestCa) {
    identity
        .install(ca.workload(USER), None, SystemTime::now())
        .unwrap();
}

#[test]
fn a_root_that_is_no_longer_listed_stays_while_our_own_certificate_chains_to_it() {
    let (old, new) = (TestCa::root("old"), TestCa::root("new"));
    let identity = Identity::new();
    install(&identity, &old);
    assert_eq!(identity.roots().unwrap(), roots(&[&old]));

    identity.set_pushed_roots(roots(&[&old, &new]));
    assert_eq!(identity.roots().unwrap(), roots(&[&old, &new]));

    identity.set_pushed_roots(roots(&[&new]));
    assert_eq!(
        *identity.current().unwrap().roots,
        roots(&[&old, &new]),
        "the old root was dropped under our own certificate"
    );

    install(&identity, &new);
    assert_eq!(*identity.current().unwrap().roots, roots(&[&new]));
}

#[test]
fn a_push_of_the_same_roots_leaves_the_credentials_alone() {
    let ca = TestCa::root("mesh");
    let identity = Identity::new();
    install(&identity, &ca);
    let before = identity.current().unwrap();
    identity.set_pushed_roots(roots(&[&ca]));
    assert!(Arc::ptr_eq(&before, &identity.current().unwrap()));
}

#[test]
fn roots_that_come_before_the_certificate_verify_it() {
    let ca = TestCa::root("mesh");
    let identity = Identity::new();
    identity.set_pushed_roots(roots(&[&ca]));
    assert!(identity.current().is_none());
    let rootless = Issued {
        roots: Vec::new(),
        ..ca.workload(USER)
    };
    identity.install(rootless, None, SystemTime::now()).unwrap();
    assert_eq!(identity.current().unwrap().id.as_str(), USER);
}

#[test]
fn what_cannot_be_used_leaves_the_last_good_certificate_in_force() {
    let ca = TestCa::root("mesh");
    let identity = Identity::new();
    install(&identity, &ca);
    let before = identity.current().unwrap();
    let foreign = ca.workload("spiffe://cluster.local/ns/demo/sa/order");
    identity
        .install(foreign, Some(&before.id), SystemTime::now())
        .unwrap_err();
    assert!(Arc::ptr_eq(&before, &identity.current().unwrap()));
}

#[test]
fn an_expired_certificate_is_not_in_force() {
    let identity = Identity::new();
    let now = SystemTime::now();
    let expired = Leaf {
        not_before: now - Duration::from_secs(20),
        not_after: now - Duration::from_secs(10),
        ..Leaf::of(&[USER])
    };
    identity
        .install(
            TestCa::root("mesh").issue(&expired),
            None,
            now - Duration::from_secs(15),
        )
        .unwrap();
    assert!(identity.current().is_none());
    let status = identity.status().certificate.unwrap();
    assert_eq!(status.identity.unwrap().as_str(), USER);
}

#[tokio::test]
async fn whoever_waits_for_the_first_credentials_is_woken() {
    let identity = Identity::new();
    let waiting = tokio::spawn({
        let identity = identity.clone();
        async move { identity.ready().await.id.to_string() }
    });
    tokio::task::yield_now().await;
    install(&identity, &TestCa::root("mesh"));
    assert_eq!(waiting.await.unwrap(), USER);
}

#[test]
fn the_status_is_what_certs_shows() {
    let ca = TestCa::root("mesh");
    let identity = Identity::new();
    install(&identity, &ca);
    identity.note_failure("no route to host".to_owned());
    let shown = serde_json::to_value(identity.status()).unwrap();
    assert_eq!(shown["certificate"]["identity"], USER);
    assert_eq!(shown["roots"][0]["subject"], "CN=mesh");
    assert_eq!(shown["rotations"], 1);
    assert_eq!(shown["failure"], "no route to host");
}

use super::*;
use crate::tls::testing::{Leaf, TestCa};

const USER: &str = "spiffe://cluster.local/ns/demo/sa/user";

fn id(uri: &str) -> SpiffeId {
    uri.parse().unwrap()
}

#[test]
fn somebody_elses_certificate_is_refused() {
    let other = "spiffe://cluster.local/ns/demo/sa/order";
    let issued = TestCa::root("mesh").workload(other);
    let error = issued
        .validate(Some(&id(USER)), None, SystemTime::now())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("chain[0]: it is the certificate of {other}, not of {USER}")
    );
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let ca = TestCa::root("mesh");
    let issued = Issued {
        key: ca.workload(USER).key,
        ..ca.workload(USER)
    };
    let error = issued.validate(None, None, SystemTime::now()).unwrap_err();
    assert!(
        matches!(error, InvalidIssued::KeyMismatch { .. }),
        "{error}"
    );
}

#[test]
fn a_chain_that_leads_to_no_root_is_refused() {
    let issued = Issued {
        roots: vec![TestCa::root("other").root_certificate()],
        ..TestCa::root("mesh").workload(USER)
    };
    let error = issued.validate(None, None, SystemTime::now()).unwrap_err();
    assert!(
        matches!(
            error,
            InvalidIssued::Chain {
                reason: PeerError::UnknownIssuer { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_certificate_that_is_over_or_not_yet_valid_is_refused() {
    let ca = TestCa::root("mesh");
    let leaf = Leaf::of(&[USER]);
    for (now, fits) in [
        (leaf.not_before - Duration::from_secs(1), false),
        (leaf.not_before + Duration::from_secs(1), true),
        (leaf.not_after + Duration::from_secs(1), false),
    ] {
        assert_eq!(ca.issue(&leaf).validate(None, None, now).is_ok(), fits);
    }
}

#[test]
fn a_certificate_for_clients_alone_is_refused() {
    let leaf = Leaf {
        usages: &[rcgen::ExtendedKeyUsagePurpose::ClientAuth],
        ..Leaf::of(&[USER])
    };
    let issued = TestCa::root("mesh").issue(&leaf);
    let error = issued.validate(None, None, SystemTime::now()).unwrap_err();
    assert!(
        matches!(error, InvalidIssued::Chain { role: "server", .. }),
        "{error}"
    );
}

#[test]
fn nothing_at_all_is_refused() {
    let ca = TestCa::root("mesh");
    let empty = Issued {
        chain: Vec::new(),
        ..ca.workload(USER)
    };
    assert_eq!(
        empty.validate(None, None, SystemTime::now()).unwrap_err(),
        InvalidIssued::NoCertificate
    );
    let rootless = Issued {
        roots: Vec::new(),
        ..ca.workload(USER)
    };
    assert_eq!(
        rootless
            .validate(None, None, SystemTime::now())
            .unwrap_err(),
        InvalidIssued::Roots(InvalidRoots::None)
    );
}

#[test]
fn a_list_is_split_into_leaf_intermediates_and_roots() {
    let ca = TestCa::root("mesh").intermediate("below");
    let issued = ca.workload(USER);
    let mut list = issued.chain.clone();
    list.push(ca.root_certificate());
    let split = Issued::from_list(issued.key, list);
    assert_eq!(split.chain, issued.chain);
    assert_eq!(split.roots, [ca.root_certificate()]);
}

#[test]
fn without_a_self_issued_one_the_last_of_a_list_is_the_root() {
    let ca = TestCa::root("mesh").intermediate("below");
    let issued = ca.workload(USER);
    let last = issued.chain.last().unwrap().clone();
    let split = Issued::from_list(issued.key, issued.chain.clone());
    assert_eq!(split.chain, issued.chain[..1]);
    assert_eq!(split.roots, [last]);
}

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn settings(directory: &Path) -> Settings {
    Settings {
        directory: directory.to_owned(),
        leaves: Leaves {
            trust_domain: "cluster.local".into(),
            max_ttl: DAY,
        },
    }
}

fn user() -> SpiffeId {
    SpiffeId::new("cluster.local", "demo", "user").unwrap()
}

fn csr(names: &[SanType]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names.to_vec();
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// Signs, and gives the seconds from now to the ends of the leaf's validity.
fn validity(ca: &Ca, ttl: Option<Duration>) -> (i64, i64) {
    let chain = ca.sign(&csr(&[]), &user(), ttl).unwrap();
    let der = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let now = x509_parser::time::ASN1Time::now().timestamp();
    (
        leaf.validity().not_before.timestamp() - now,
        leaf.validity().not_after.timestamp() - now,
    )
}

#[test]
fn the_root_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = Ca::open(settings(dir.path())).unwrap();
    let second = Ca::open(settings(dir.path())).unwrap();
    assert_eq!(first.authority().roots(), second.authority().roots());
    assert_eq!(
        fs::read_to_string(dir.path().join("root-cert.pem")).unwrap(),
        second.bundle()
    );
}

#[test]
fn the_key_is_for_the_owner_only_and_no_draft_is_left() {
    let dir = tempfile::tempdir().unwrap();
    Ca::open(settings(dir.path())).unwrap();
    let mode = fs::metadata(dir.path().join("ca-key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["ca-cert.pem", "ca-key.pem", "root-cert.pem"]);
}

#[test]
fn a_leaf_bears_the_identity_and_chains_to_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::open(settings(dir.path())).unwrap();
    let chain = ca
        .sign(&csr(&[uri(user().as_str())]), &user(), None)
        .unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1], ca.bundle());

    let der = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let root = CertificateDer::from_pem_slice(chain[1].as_bytes()).unwrap();
    let (_, root) = X509Certificate::from_der(&root).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical);
    assert_eq!(san.value.general_names, [GeneralName::URI(user().as_str())]);
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth);
    assert!(!leaf.is_ca());
}

#[test]
fn a_lifetime_is_brought_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::open(settings(dir.path())).unwrap();
    let day = DAY.as_secs() as i64;
    let near = |seconds: i64, expected: i64| (seconds - expected).abs() <= 2;
    for (asked, given) in [
        (None, day),
        (Some(365 * DAY), day),
        (Some(Duration::from_secs(3600)), 3600),
        (Some(Duration::from_secs(1)), 10),
    ] {
        let (_, not_after) = validity(&ca, asked);
        assert!(near(not_after, given), "{asked:?} gave {not_after} s");
    }
    let (not_before, _) = validity(&ca, None);
    assert!(near(not_before, -60), "valid from {not_before} s");
}

#[test]
fn a_request_for_another_name_is_refused_and_both_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::open(settings(dir.path())).unwrap();
    let other = "spiffe://cluster.local/ns/demo/sa/admin";
    for name in [
        uri(other),
        SanType::DnsName("bank.example".try_into().unwrap()),
    ] {
        let names = [uri(user().as_str()), name];
        let error = ca
            .sign(&csr(&names), &user(), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(user().as_str()), "{error}");
        assert!(
            error.contains(other) || error.contains("bank.example"),
            "{error}"
        );
    }
}

#[test]
fn a_caller_of_another_trust_domain_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::open(settings(dir.path())).unwrap();
    let stranger = SpiffeId::new("elsewhere", "demo", "user").unwrap();
    assert!(matches!(
        ca.sign(&csr(&[]), &stranger, None),
        Err(SignError::TrustDomain { .. })
    ));
}

#[test]
fn what_is_no_request_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::open(settings(dir.path())).unwrap();
    for text in ["", "nonsense", &ca.bundle()] {
        assert!(matches!(
            ca.sign(text, &user(), None),
            Err(SignError::Request(_))
        ));
    }
}

#[test]
fn a_corrupt_file_is_named_and_never_replaced() {
    for (name, fix) in [("ca-key.pem", "backup"), ("ca-cert.pem", "backup")] {
        let dir = tempfile::tempdir().unwrap();
        Ca::open(settings(dir.path())).unwrap();
        let path = dir.path().join(name);
        fs::write(&path, "garbage").unwrap();
        let error = Ca::open(settings(dir.path())).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains(fix) && error.contains("--ca-dir"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "garbage");
    }
}

#[test]
fn a_certificate_of_another_key_or_trust_domain_is_refused() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Ca::open(settings(ours.path())).unwrap();
    let mut elsewhere = settings(ours.path());
    elsewhere.leaves.trust_domain = "elsewhere".into();
    let error = Ca::open(elsewhere).unwrap_err().to_string();
    assert!(
        error.contains("cluster.local") && error.contains("--trust-domain"),
        "{error}"
    );

    Ca::open(settings(theirs.path())).unwrap();
    fs::copy(
        theirs.path().join("ca-cert.pem"),
        ours.path().join("ca-cert.pem"),
    )
    .unwrap();
    let error = Ca::open(settings(ours.path())).unwrap_err().to_string();
    assert!(error.contains("it does not belong to the key"), "{error}");
}

#[test]
fn further_roots_are_trusted_beside_the_signing_one() {
    let (ours, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old_root = Ca::open(settings(old.path())).unwrap().bundle();
    fs::write(ours.path().join("old.root.pem"), &old_root).unwrap();
    let ca = Ca::open(settings(ours.path())).unwrap();
    assert_eq!(ca.authority().roots().len(), 2);
    assert_eq!(ca.authority().roots()[1], old_root);
    assert_eq!(ca.bundle().matches("BEGIN CERTIFICATE").count(), 2);

    fs::write(ours.path().join("old.root.pem"), "garbage").unwrap();
    let error = Ca::open(settings(ours.path())).unwrap_err().to_string();
    assert!(error.contains("old.root.pem"), "{error}");
}

#[test]
fn a_leaf_never_outlives_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let ends_in = |seconds| {
        let mut authority = directory::load_authority(dir.path(), "cluster.local").unwrap();
        authority.valid.end = SystemTime::now() + Duration::from_secs(seconds);
        authority
    };
    let ca = Ca::new(settings(dir.path()).leaves, ends_in(3600));
    assert!(validity(&ca, None).1 <= 3600);
    ca.replace(ends_in(5));
    assert!(matches!(
        ca.sign(&csr(&[]), &user(), None),
        Err(SignError::RootEnds)
    ));
}

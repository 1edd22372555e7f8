//! Handshakes between credentials, in memory.

use crate::tls::{
    Alpn, Credentials, Identity, PeerError, Roots, peer_identity,
    testing::{Leaf, TestCa},
};
use rustls::{CertificateError, ClientConnection, HandshakeKind, ServerConnection};
use rustls_pki_types::ServerName;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

const USER: &str = "spiffe://cluster.local/ns/demo/sa/user";
const ORDER: &str = "spiffe://cluster.local/ns/demo/sa/order";

fn credentials(ca: &TestCa, uri: &str) -> Arc<Credentials> {
    Identity::new()
        .install(ca.workload(uri), None, SystemTime::now())
        .unwrap()
}

/// Credentials that nobody would install: what a misbehaving peer shows.
fn forged(ca: &TestCa, leaf: &Leaf<'_>, good: &Credentials) -> Credentials {
    let issued = ca.issue(leaf);
    let key = crate::tls::provider()
        .key_provider
        .load_private_key(issued.key)
        .unwrap();
    Credentials::new(
        good.id.clone(),
        good.leaf.clone(),
        Arc::new(rustls::sign::CertifiedKey::new(issued.chain, key)),
        good.roots.clone(),
    )
    .unwrap()
}

struct Ends {
    client: ClientConnection,
    server: ServerConnection,
}

fn connect(client: &Credentials, alpn: Alpn, server: &Credentials) -> Result<Ends, rustls::Error> {
    let name = ServerName::try_from("10.0.0.1").unwrap();
    let mut ends = Ends {
        client: ClientConnection::new(client.client(alpn).clone(), name).unwrap(),
        server: ServerConnection::new(server.server.clone()).unwrap(),
    };
    while ends.client.is_handshaking() || ends.server.is_handshaking() {
        ends.transfer()?;
    }
    // The ticket comes after the handshake.
    ends.transfer()?;
    Ok(ends)
}

impl Ends {
    fn transfer(&mut self) -> Result<(), rustls::Error> {
        let mut buffer = Vec::new();
        self.client.write_tls(&mut buffer).unwrap();
        feed(&mut self.server, &buffer)?;
        buffer.clear();
        self.server.write_tls(&mut buffer).unwrap();
        feed(&mut self.client, &buffer)
    }
}

fn feed<D>(
    connection: &mut rustls::ConnectionCommon<D>,
    mut bytes: &[u8],
) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).unwrap();
        connection.process_new_packets()?;
    }
    Ok(())
}

fn peer_error(error: &rustls::Error) -> PeerError {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.downcast_ref::<PeerError>().unwrap().clone()
        }
        other => panic!("not about a certificate: {other}"),
    }
}

#[test]
fn both_sides_learn_the_identity_of_the_other_over_a_post_quantum_key_exchange() {
    let ca = TestCa::root("mesh");
    let (user, order) = (credentials(&ca, USER), credentials(&ca, ORDER));
    let ends = connect(&order, Alpn::Http1, &user).unwrap();
    assert_eq!(
        peer_identity(ends.client.peer_certificates())
            .unwrap()
            .as_str(),
        USER
    );
    assert_eq!(
        peer_identity(ends.server.peer_certificates())
            .unwrap()
            .as_str(),
        ORDER
    );
    assert_eq!(
        ends.client.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    assert_eq!(
        ends.client.negotiated_key_exchange_group().unwrap().name(),
        rustls::NamedGroup::X25519MLKEM768
    );
}

#[test]
fn a_resumed_session_brings_the_identities_of_both_sides() {
    let ca = TestCa::root("mesh");
    let (user, order) = (credentials(&ca, USER), credentials(&ca, ORDER));
    connect(&order, Alpn::Http1, &user).unwrap();
    let ends = connect(&order, Alpn::Http1, &user).unwrap();
    assert_eq!(ends.client.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(
        peer_identity(ends.client.peer_certificates())
            .unwrap()
            .as_str(),
        USER
    );
    assert_eq!(
        peer_identity(ends.server.peer_certificates())
            .unwrap()
            .as_str(),
        ORDER
    );
}

#[test]
fn a_session_is_not_resumed_with_other_credentials() {
    let ca = TestCa::root("mesh");
    let (user, order) = (credentials(&ca, USER), credentials(&ca, ORDER));
    connect(&order, Alpn::Http1, &user).unwrap();
    // The server rotated: its tickets are worth nothing any more.
    let rotated = credentials(&ca, USER);
    let ends = connect(&order, Alpn::Http1, &rotated).unwrap();
    assert_eq!(
        ends.client.handshake_kind(),
        Some(HandshakeKind::Full),
        "a ticket of the old credentials was accepted"
    );
    // The client rotated: it has no tickets.
    let ends = connect(&credentials(&ca, ORDER), Alpn::Http1, &rotated).unwrap();
    assert_eq!(ends.client.handshake_kind(), Some(HandshakeKind::Full));
}

#[test]
fn each_kind_of_connection_is_announced() {
    let ca = TestCa::root("mesh");
    let (user, order) = (credentials(&ca, USER), credentials(&ca, ORDER));
    for (alpn, name) in [
        (Alpn::Http1, &b"weft-http/1.1"[..]),
        (Alpn::Http2, b"weft-h2"),
        (Alpn::Tcp, b"weft-tcp"),
    ] {
        let ends = connect(&order, alpn, &user).unwrap();
        assert_eq!(ends.server.alpn_protocol(), Some(name));
        assert_eq!(
            Alpn::from_negotiated(ends.server.alpn_protocol()),
            Some(alpn)
        );
    }
}

#[test]
fn a_peer_of_another_trust_domain_is_refused_naming_both() {
    let ca = TestCa::root("mesh");
    let user = credentials(&ca, USER);
    let elsewhere = ["spiffe://other.example/ns/demo/sa/order"];
    let stranger = forged(&ca, &Leaf::of(&elsewhere), &user);
    let error = peer_error(&connect(&stranger, Alpn::Http1, &user).err().unwrap());
    assert_eq!(
        error.to_string(),
        "spiffe://other.example/ns/demo/sa/order is of trust domain \"other.example\", not of \"cluster.local\""
    );
    let error = peer_error(&connect(&user, Alpn::Http1, &stranger).err().unwrap());
    assert!(matches!(error, PeerError::TrustDomain { .. }), "{error}");
}

#[test]
fn a_peer_with_an_expired_certificate_is_refused_saying_which_and_when() {
    let ca = TestCa::root("mesh");
    let user = credentials(&ca, USER);
    let expired = Leaf {
        not_before: SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000),
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        ..Leaf::of(&[ORDER])
    };
    let expired = forged(&ca, &expired, &user);
    let error = peer_error(&connect(&user, Alpn::Http1, &expired).err().unwrap()).to_string();
    assert!(
        error.starts_with(&format!("the certificate of {ORDER} (serial "))
            && error.contains("expired at 2023-11-14T22:13:20Z"),
        "{error}"
    );
}

#[test]
fn a_peer_that_no_root_of_ours_issued_is_refused() {
    let user = credentials(&TestCa::root("mesh"), USER);
    let stranger = credentials(&TestCa::root("stranger"), ORDER);
    let error = peer_error(&connect(&stranger, Alpn::Http1, &user).err().unwrap());
    assert!(matches!(error, PeerError::UnknownIssuer { .. }), "{error}");
    assert!(
        error.to_string().contains("was issued by \"CN=mesh\"")
            && error.to_string().contains("(\"CN=stranger\" serial"),
        "{error}"
    );
}

#[test]
fn a_certificate_for_clients_only_is_no_server_certificate() {
    let ca = TestCa::root("mesh");
    let user = credentials(&ca, USER);
    let client_only = Leaf {
        usages: &[rcgen::ExtendedKeyUsagePurpose::ClientAuth],
        ..Leaf::of(&[ORDER])
    };
    let client_only = forged(&ca, &client_only, &user);
    connect(&client_only, Alpn::Http1, &user).unwrap();
    let error = peer_error(&connect(&user, Alpn::Http1, &client_only).err().unwrap());
    assert!(matches!(error, PeerError::Refused { .. }), "{error}");
}

#[test]
fn two_uri_names_are_one_too_many() {
    let ca = TestCa::root("mesh");
    let user = credentials(&ca, USER);
    let both = forged(&ca, &Leaf::of(&[ORDER, USER]), &user);
    let error = peer_error(&connect(&both, Alpn::Http1, &user).err().unwrap());
    assert!(matches!(error, PeerError::Certificate(_)), "{error}");
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let ca = TestCa::root("mesh");
    let user = credentials(&ca, USER);
    let mut anonymous = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    anonymous
        .dangerous()
        .set_certificate_verifier(Arc::new(super::PeerVerifier {
            roots: user.roots.clone(),
            trust_domain: "cluster.local".to_owned(),
        }));
    let name = ServerName::try_from("10.0.0.1").unwrap();
    let mut ends = Ends {
        client: ClientConnection::new(Arc::new(anonymous), name).unwrap(),
        server: ServerConnection::new(user.server.clone()).unwrap(),
    };
    let error = loop {
        if let Err(error) = ends.transfer() {
            break error;
        }
    };
    assert_eq!(error, rustls::Error::NoCertificatesPresented);
}

#[test]
fn intermediates_and_several_roots_are_followed() {
    let (old, new) = (TestCa::root("old"), TestCa::root("new"));
    let under_new = new.intermediate("issuer").intermediate("below");
    let (user, order) = (Identity::new(), Identity::new());
    let now = SystemTime::now();
    for (identity, issued) in [
        (&user, old.workload(USER)),
        (&order, under_new.workload(ORDER)),
    ] {
        let both = [old.root_certificate(), new.root_certificate()];
        identity.set_pushed_roots(crate::tls::Roots::new(both).unwrap());
        identity.install(issued, None, now).unwrap();
    }
    let (user, order) = (user.current().unwrap(), order.current().unwrap());
    connect(&order, Alpn::Http1, &user).unwrap();
    connect(&user, Alpn::Http1, &order).unwrap();
}

#[test]
fn no_certificate_is_no_identity() {
    assert_eq!(peer_identity(None), Err(PeerError::NoCertificate));
    assert_eq!(peer_identity(Some(&[])), Err(PeerError::NoCertificate));
}

#[test]
fn a_change_of_roots_with_overlap_refuses_nobody_and_drops_no_connection() {
    let (old, new) = (TestCa::root("old"), TestCa::root("new"));
    let roots = |of: &[&TestCa]| Roots::new(of.iter().map(|ca| ca.root_certificate())).unwrap();
    let (user, order) = (Identity::new(), Identity::new());
    let install = |identity: &Identity, ca: &TestCa, uri| {
        let issued = ca.workload(uri);
        identity.install(issued, None, SystemTime::now()).unwrap();
    };
    let assert_both_ways = |when: &str| {
        let (user, order) = (user.current().unwrap(), order.current().unwrap());
        for (client, server) in [(&user, &order), (&order, &user)] {
            if let Err(error) = connect(client, Alpn::Http1, server) {
                panic!("{when}: {} refused {}: {error}", server.id, client.id);
            }
        }
    };
    install(&user, &old, USER);
    install(&order, &old, ORDER);
    let (before_user, before_order) = (user.current().unwrap(), order.current().unwrap());
    let mut open = connect(&before_user, Alpn::Http1, &before_order).unwrap();

    // The new root is trusted: by one of them first.
    user.set_pushed_roots(roots(&[&old, &new]));
    assert_both_ways("one knows the new root");
    order.set_pushed_roots(roots(&[&old, &new]));
    assert_both_ways("both know the new root");

    // It signs, and one of them renews before the other.
    install(&user, &new, USER);
    assert_both_ways("one has a new certificate");
    install(&order, &new, ORDER);
    assert_both_ways("both have new certificates");

    // The old root is dropped.
    order.set_pushed_roots(roots(&[&new]));
    assert_both_ways("one has dropped the old root");
    user.set_pushed_roots(roots(&[&new]));
    assert_both_ways("both have dropped the old root");
    assert_eq!(*user.current().unwrap().roots, roots(&[&new]));

    // What began before all that goes on.
    std::io::Write::write_all(&mut open.client.writer(), b"still here").unwrap();
    open.transfer().unwrap();
    let mut received = [0; 10];
    std::io::Read::read_exact(&mut open.server.reader(), &mut received).unwrap();
    assert_eq!(&received, b"still here");
}

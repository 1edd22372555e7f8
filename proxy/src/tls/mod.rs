//! The workload's identity, and mutual TLS between sidecars.
//!
//! Owns: the certificate in force and its rotation ([`Identity`]), the rustls configurations made of it
//! ([`Credentials`]), and what makes a peer trustworthy: a chain to the roots of the trust domain and a
//! SPIFFE identity, never a host name. Does not own: sockets, and which identity an endpoint must have.
//!
//! Whoever completes a handshake calls [`peer_identity`] with the certificates of the connection, resumed or
//! not, and compares: the chain is verified here, who the peer is must be decided there.

mod authorities;
pub mod backoff;
mod certificate;
pub mod control_plane;
mod credentials;
mod identity;
mod issued;
mod roots;
pub mod rotation;
pub mod source;
mod verify;

pub use authorities::Authorities;
pub(crate) use certificate::rfc3339;
pub use certificate::{InvalidCertificate, Summary};
pub use credentials::{Alpn, Credentials};
pub use identity::{Identity, Status};
pub use issued::{InvalidIssued, Issued};
pub use roots::{InvalidRoots, Roots};
pub use source::CertificateSource;
pub use verify::{PeerError, peer_identity};

use rustls::{
    CipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
};
use std::sync::{Arc, LazyLock};

/// The cryptography of every connection between sidecars: aws-lc, X25519MLKEM768 and AES-128 first.
///
/// Not AES-256: its handshake hashes with SHA-384, for which processors have no instructions as they have for
/// SHA-256 (8 % of a handshake), and its records take more rounds. A client that prefers it gets it.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
        let mut provider = aws_lc_rs::default_provider();
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        Arc::new(CryptoProvider {
            kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
            ..provider
        })
    });
    PROVIDER.clone()
}

#[cfg(any(test, feature = "testing"))]
pub mod testing;

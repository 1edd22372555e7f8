//! Who calls: decided from the client certificate or a token, never from what a request says.

mod review;

use std::{net::SocketAddr, sync::Arc};

use rustls_pki_types::CertificateDer;
use tonic::{Request, Status};
use weft_xds_proto::spiffe::SpiffeId;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::ca::token::{JoinKey, Subject};

pub use review::{ReviewError, Reviewer};

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What the connection proves of it.
    pub proof: Proof,
}

/// What a connection proves of its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A certificate of the mesh.
    Certificate(SpiffeId),
    /// A certificate that chains to the mesh's roots but does not name one workload, and why.
    Unusable(String),
    /// TLS without client certificate.
    None,
    /// No TLS. Whoever reaches the plaintext listener is trusted, which is why it is off by default.
    Plaintext,
}

/// A caller that has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its identity.
    pub identity: SpiffeId,
    /// Its pod, when a token says so: certificates do not.
    pub pod: Option<String>,
}

/// Tells callers apart.
#[derive(Debug, Clone)]
pub struct Authenticator {
    tokens: Tokens,
    trust_domain: Arc<str>,
}

/// What tokens there are, and who can tell a good one.
#[derive(Debug, Clone)]
pub enum Tokens {
    /// Join tokens, by the key that they are minted with.
    Join(JoinKey),
    /// Projected tokens of Kubernetes service accounts, by its API.
    ServiceAccount(Arc<Reviewer>),
}

/// What a request shows of its caller, still to be believed.
#[derive(Debug)]
struct Shown {
    proof: Option<Proof>,
    token: Option<String>,
}

impl Authenticator {
    /// Accepts such tokens, and identities of this trust domain.
    pub fn new(tokens: Tokens, trust_domain: Arc<str>) -> Self {
        Self {
            tokens,
            trust_domain,
        }
    }

    /// The caller of a request: by the certificate of its connection, else by the bearer token in its
    /// `authorization` metadata. The future does not hold on to the request.
    ///
    /// Errors with the gRPC status to answer, which says what is missing or wrong.
    pub fn caller<'a, T>(
        &'a self,
        request: &Request<T>,
    ) -> impl Future<Output = Result<Caller, Status>> + Send + use<'a, T> {
        let shown = Shown {
            proof: request
                .extensions()
                .get::<Peer>()
                .map(|peer| peer.proof.clone()),
            token: bearer(request).map(str::to_owned),
        };
        self.decide(shown)
    }

    async fn decide(&self, shown: Shown) -> Result<Caller, Status> {
        if let Some(Proof::Certificate(identity)) = shown.proof {
            if *identity.trust_domain() != *self.trust_domain {
                return Err(Status::unauthenticated(format!(
                    "the client certificate is of {identity}, but the trust domain here is {}",
                    self.trust_domain
                )));
            }
            return Ok(Caller {
                identity,
                pod: None,
            });
        }
        if let Some(token) = shown.token {
            return self.by_token(&token).await;
        }
        Err(Status::unauthenticated(match shown.proof {
            Some(Proof::Unusable(reason)) => {
                format!("the client certificate proves nothing: {reason}")
            }
            _ => format!(
                "no client certificate and no `authorization: Bearer` token; give the proxy {}",
                self.tokens.describe()
            ),
        }))
    }

    async fn by_token(&self, token: &str) -> Result<Caller, Status> {
        let subject = self.tokens.subject(token).await?;
        let identity = SpiffeId::new(
            &self.trust_domain,
            &subject.namespace,
            &subject.service_account,
        )
        .map_err(|error| Status::unauthenticated(error.to_string()))?;
        Ok(Caller {
            identity,
            pod: Some(subject.pod),
        })
    }
}

impl Tokens {
    async fn subject(&self, token: &str) -> Result<Subject, Status> {
        match self {
            Self::Join(key) => key
                .verify(token)
                .map_err(|error| Status::unauthenticated(error.to_string())),
            Self::ServiceAccount(reviewer) => {
                reviewer.review(token).await.map_err(|error| match error {
                    ReviewError::Refused(_) => Status::unauthenticated(error.to_string()),
                    ReviewError::Unavailable(_) => Status::unavailable(error.to_string()),
                })
            }
        }
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::Join(_) => "a join token (`weft-control-plane token`)",
            Self::ServiceAccount(_) => {
                "a projected service account token for the audience weft-control-plane"
            }
        }
    }
}

impl Proof {
    /// What a verified client certificate proves, if there is one.
    pub fn of_certificates(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let Some(leaf) = certificates.and_then(<[_]>::first) else {
            return Self::None;
        };
        match identity(leaf) {
            Ok(identity) => Self::Certificate(identity),
            Err(reason) => Self::Unusable(reason),
        }
    }
}

/// The one URI that names a workload (SPIFFE X.509-SVID section 2).
fn identity(leaf: &CertificateDer<'_>) -> Result<SpiffeId, String> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let names = leaf
        .subject_alternative_name()
        .map_err(|error| error.to_string())?
        .map(|san| san.value.general_names.as_slice())
        .unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse::<SpiffeId>().map_err(|error| error.to_string()),
        (None, _) => Err("it has no URI name".to_owned()),
        (Some(_), Some(_)) => Err("it has more than one URI name".to_owned()),
    }
}

fn bearer<T>(request: &Request<T>) -> Option<&str> {
    let value = request.metadata().get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

//! Join tokens: how a workload outside Kubernetes proves who it is for the first time.
//!
//! A token bears the claims of a Kubernetes projected service account token, so that both kinds mean
//! the same. It is signed with a key of this control plane (HS256) that never leaves its directory.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{
    directory::{Directory, StorageError},
    root::random,
};

/// The audience of join tokens: a token meant for something else is no proof here.
pub const AUDIENCE: &str = "weft-control-plane";

const KEY: &str = "join-token-key";

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The service account, which is the identity.
    pub service_account: String,
    /// The pod.
    pub pod: String,
}

/// The key that signs and verifies join tokens.
#[derive(Clone)]
pub struct JoinKey {
    sign: EncodingKey,
    verify: DecodingKey,
}

/// Why a token proves nothing.
#[derive(Debug, thiserror::Error)]
#[error(
    "the join token is refused: {0}; mint one with `weft-control-plane token` from the --ca-dir of this control plane"
)]
pub struct InvalidToken(#[from] jsonwebtoken::errors::Error);

impl JoinKey {
    /// Loads the key of a directory, or makes one when there is none.
    pub fn open(directory: &Path) -> Result<Self, StorageError> {
        let directory = Directory::open(directory)?;
        let text = directory.read_or_create(KEY, 0o600, || {
            random::<32>().map(|byte| format!("{byte:02x}")).concat()
        })?;
        Self::parse(&directory, &text)
    }

    /// Loads the key of a directory that a control plane has used: a new key would sign tokens that
    /// nobody accepts.
    pub fn load(path: &Path) -> Result<Self, StorageError> {
        let directory = Directory::at(path);
        match directory.read(KEY)? {
            Some(text) => Self::parse(&directory, &text),
            None => Err(directory.unusable(
                KEY,
                "it does not exist",
                "give the --ca-dir of a control plane that has been started",
            )),
        }
    }

    /// Mints a token that is valid from now on.
    pub fn mint(&self, subject: &Subject, ttl: Duration) -> String {
        self.mint_at(subject, SystemTime::now(), ttl)
    }

    /// Whom a token speaks for.
    ///
    /// Errors when it was signed with another key, is meant for another audience, or has expired.
    pub fn verify(&self, token: &str) -> Result<Subject, InvalidToken> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud"]);
        // The clock that minted it is the clock that checks it.
        validation.leeway = 0;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verify, &validation)?.claims;
        Ok(Subject {
            namespace: claims.kubernetes.namespace,
            service_account: claims.kubernetes.serviceaccount.name,
            pod: claims.kubernetes.pod.name,
        })
    }

    fn parse(directory: &Directory, text: &str) -> Result<Self, StorageError> {
        let secret = text.trim();
        if secret.len() < 64 {
            return Err(directory.unusable(
                KEY,
                "it is shorter than 64 characters",
                "remove it to have a new one made; tokens minted before become void",
            ));
        }
        Ok(Self {
            sign: EncodingKey::from_secret(secret.as_bytes()),
            verify: DecodingKey::from_secret(secret.as_bytes()),
        })
    }

    fn mint_at(&self, subject: &Subject, now: SystemTime, ttl: Duration) -> String {
        let since_epoch = now
            .duration_since(UNIX_EPOCH)
            .expect("the clock shows a time after 1970");
        let claims = Claims {
            aud: vec![AUDIENCE.to_owned()],
            iat: since_epoch.as_secs(),
            exp: (since_epoch + ttl).as_secs(),
            kubernetes: Kubernetes {
                namespace: subject.namespace.clone(),
                serviceaccount: Named {
                    name: subject.service_account.clone(),
                },
                pod: Named {
                    name: subject.pod.clone(),
                },
            },
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.sign)
            .expect("claims of plain strings and numbers become JSON")
    }
}

impl std::fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinKey")
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    iat: u64,
    exp: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    pod: Named,
}

#[derive(Debug, Serialize, Deserialize)]
struct Named {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            namespace: "demo".to_owned(),
            service_account: "user".to_owned(),
            pod: "user-0".to_owned(),
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_token_gives_back_whom_it_was_minted_for() {
        let dir = tempfile::tempdir().unwrap();
        let minted = JoinKey::open(dir.path()).unwrap().mint(&subject(), HOUR);
        let key = JoinKey::load(dir.path()).unwrap();
        assert_eq!(key.verify(&minted).unwrap(), subject());
    }

    #[test]
    fn an_expired_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = JoinKey::open(dir.path()).unwrap();
        let yesterday = SystemTime::now() - 24 * HOUR;
        let error = key
            .verify(&key.mint_at(&subject(), yesterday, HOUR))
            .unwrap_err();
        assert!(error.to_string().contains("ExpiredSignature"), "{error}");
    }

    #[test]
    fn a_token_of_another_control_plane_is_refused() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let token = JoinKey::open(theirs.path()).unwrap().mint(&subject(), HOUR);
        assert!(JoinKey::open(ours.path()).unwrap().verify(&token).is_err());
    }

    #[test]
    fn a_token_without_signature_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = JoinKey::open(dir.path()).unwrap();
        let token = key.mint(&subject(), HOUR);
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        assert!(key.verify(&format!("{unsigned}.")).is_err());
        assert!(key.verify("").is_err());
    }

    #[test]
    fn a_key_is_not_made_where_one_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let error = JoinKey::load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("join-token-key") && error.contains("--ca-dir"),
            "{error}"
        );
    }
}

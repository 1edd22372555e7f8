//! SPIFFE identities of workloads: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.

use std::{fmt, str::FromStr, sync::Arc};

/// The identity of a workload, as it stands in the URI SAN of its certificate (SPIFFE-ID section 2).
///
/// Cloning is cheap: identities are compared and passed on the path of every connection.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    uri: Arc<str>,
    trust_domain_end: usize,
    namespace_end: usize,
}

/// Why a text is not a workload identity of a mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a workload identity ({reason}); expected {SHAPE}")]
pub struct InvalidSpiffeId {
    text: String,
    reason: &'static str,
}

const SCHEME: &str = "spiffe://";
const SHAPE: &str = "spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>";

impl SpiffeId {
    /// Builds the identity of a service account.
    ///
    /// Errors when a part is empty or holds a character that SPIFFE-ID section 2 does not allow.
    pub fn new(
        trust_domain: &str,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, InvalidSpiffeId> {
        format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The trust domain, for example `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        &self.uri[SCHEME.len()..self.trust_domain_end]
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.uri[self.trust_domain_end + "/ns/".len()..self.namespace_end]
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.uri[self.namespace_end + "/sa/".len()..]
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidSpiffeId {
            text: text.to_owned(),
            reason,
        };
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| invalid("the scheme is not spiffe"))?;
        let mut parts = rest.split('/');
        let (
            Some(trust_domain),
            Some("ns"),
            Some(namespace),
            Some("sa"),
            Some(service_account),
            None,
        ) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        )
        else {
            return Err(invalid(
                "the path is not /ns/<namespace>/sa/<service-account>",
            ));
        };
        let allowed_in_domain =
            |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
        let allowed_in_path = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        if trust_domain.is_empty() || !trust_domain.bytes().all(allowed_in_domain) {
            return Err(invalid(
                "the trust domain is empty or has a forbidden character",
            ));
        }
        for part in [namespace, service_account] {
            if part.is_empty() || part == "." || part == ".." || !part.bytes().all(allowed_in_path)
            {
                return Err(invalid(
                    "a path segment is empty or has a forbidden character",
                ));
            }
        }
        let trust_domain_end = SCHEME.len() + trust_domain.len();
        let namespace_end = trust_domain_end + "/ns/".len() + namespace.len();
        Ok(Self {
            uri: text.into(),
            trust_domain_end,
            namespace_end,
        })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_gives_back_its_parts() {
        let id = SpiffeId::new("cluster.local", "demo", "user").unwrap();
        assert_eq!(id.as_str(), "spiffe://cluster.local/ns/demo/sa/user");
        assert_eq!(
            (id.trust_domain(), id.namespace(), id.service_account()),
            ("cluster.local", "demo", "user")
        );
    }

    #[test]
    fn what_is_not_a_workload_identity_is_refused() {
        for text in [
            "",
            "https://cluster.local/ns/demo/sa/user",
            "spiffe://cluster.local/demo/user",
            "spiffe://cluster.local/ns/demo/sa/user/extra",
            "spiffe://cluster.local/ns//sa/user",
            "spiffe://Cluster.Local/ns/demo/sa/user",
            "spiffe:///ns/demo/sa/user",
            "spiffe://cluster.local/ns/../sa/user",
            "spiffe://cluster.local/ns/de%6do/sa/user",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?} was accepted");
        }
    }
}

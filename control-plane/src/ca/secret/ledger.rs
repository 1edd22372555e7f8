//! What the Secret `weft-ca` says: roots, the key that signs, and until when each root is needed.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};

use crate::ca::authority::{Authority, Flaw, Material, NewRoot, Part, rfc3339};

/// The key that signs.
pub(super) const KEY: &str = "ca-key.pem";
/// Its root.
pub(super) const CERTIFICATE: &str = "ca-cert.pem";
/// Keys with this ending hold further roots to trust. Those that have a note of [`TRUSTED_UNTIL`] are dropped
/// by then; others stay.
pub(super) const FURTHER_ROOTS: &str = ".root.pem";
/// The root that will sign next.
pub(super) const NEXT_ROOT: &str = "next.root.pem";
/// Its key.
pub(super) const NEXT_KEY: &str = "next-key.pem";
/// The roots of the supplied Secret that signs instead, as they were seen last.
pub(super) const SUPPLIED_ROOTS: &str = "supplied.root.pem";

/// Asks for a rotation, whatever its value.
pub(super) const ROTATE: &str = "weft.dev/rotate";
/// From when on the next root signs.
pub(super) const NEXT_SIGNS_AT: &str = "weft.dev/next-root-signs-at";
/// The longest lifetime of a leaf that the signing root may have signed.
pub(super) const LONGEST_LEAF: &str = "weft.dev/longest-leaf";
/// Before the name of a further root: until when leaves may chain to it.
pub(super) const TRUSTED_UNTIL: &str = "weft.dev/trusted-until.";

/// The content of the Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// The data, as text.
    pub(super) texts: BTreeMap<String, String>,
    /// The annotations, those of others included.
    pub(super) notes: BTreeMap<String, String>,
}

/// A note or text of the ledger that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The key or annotation.
    pub(super) key: String,
    pub(super) reason: String,
}

impl Ledger {
    /// Reads the Secret.
    pub(super) fn read(secret: &Secret) -> Result<Self, Malformed> {
        let mut texts = BTreeMap::new();
        for (key, ByteString(value)) in secret.data.iter().flatten() {
            let text = String::from_utf8(value.clone()).map_err(|_| Malformed {
                key: key.clone(),
                reason: "it is no text".to_owned(),
            })?;
            texts.insert(key.clone(), text);
        }
        Ok(Self {
            texts,
            notes: secret.metadata.annotations.clone().unwrap_or_default(),
        })
    }

    /// Writes everything into a Secret, which keeps what else it has.
    pub(super) fn write(&self, secret: &mut Secret) {
        let data = self
            .texts
            .iter()
            .map(|(key, text)| (key.clone(), ByteString(text.clone().into_bytes())));
        secret.data = Some(data.collect());
        secret.metadata.annotations = Some(self.notes.clone());
    }

    /// A ledger with one root that signs.
    #[cfg(test)]
    pub(super) fn of(root: NewRoot, leaf_ttl: Duration) -> Self {
        let mut ledger = Self::default();
        ledger.sign_with(root);
        ledger.note_leaf(leaf_ttl);
        ledger
    }

    /// Whether there is a root that signs, readable or not.
    pub(super) fn is_established(&self) -> bool {
        self.texts.contains_key(CERTIFICATE) || self.texts.contains_key(KEY)
    }

    /// What signs and what is trusted, if the ledger's own root signs.
    pub(super) fn authority(&self, trust_domain: &str, now: SystemTime) -> Result<Authority, Flaw> {
        let text = |key, part| {
            self.text(key).ok_or(Flaw {
                part,
                reason: "it is not there".to_owned(),
            })
        };
        let material = Material {
            key: text(KEY, Part::Key)?,
            certificate: text(CERTIFICATE, Part::Certificate)?,
            further: self.further().collect(),
        };
        Authority::parse(&material, trust_domain, now)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// The further roots, by key.
    pub(super) fn further(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts
            .iter()
            .filter(|(key, _)| key.ends_with(FURTHER_ROOTS))
            .map(|(key, text)| (key.as_str(), text.as_str()))
    }

    pub(super) fn sign_with(&mut self, root: NewRoot) {
        self.texts.insert(CERTIFICATE.to_owned(), root.certificate);
        self.texts.insert(KEY.to_owned(), root.key);
    }

    /// Keeps a root that signs no more, for as long as leaves may chain to it.
    pub(super) fn keep_until(&mut self, root: String, until: SystemTime, now: SystemTime) {
        // A colon is no character of a key.
        let mut name = format!("old-{}", rfc3339(now).replace(':', "-"));
        while self.texts.contains_key(&format!("{name}{FURTHER_ROOTS}")) {
            name.push_str("-1");
        }
        self.note_time(&format!("{TRUSTED_UNTIL}{name}"), until);
        self.texts.insert(format!("{name}{FURTHER_ROOTS}"), root);
    }

    /// Further roots that have an end, with that.
    pub(super) fn ending(&self) -> Result<Vec<(&str, SystemTime)>, Malformed> {
        let mut ending = Vec::new();
        for (key, _) in self.further() {
            let name = key.strip_suffix(FURTHER_ROOTS).unwrap_or(key);
            if let Some(until) = self.time(&format!("{TRUSTED_UNTIL}{name}"))? {
                ending.push((key, until));
            }
        }
        Ok(ending)
    }

    pub(super) fn drop_root(&mut self, key: &str) {
        self.texts.remove(key);
        let name = key.strip_suffix(FURTHER_ROOTS).unwrap_or(key);
        self.notes.remove(&format!("{TRUSTED_UNTIL}{name}"));
    }

    pub(super) fn time(&self, note: &str) -> Result<Option<SystemTime>, Malformed> {
        let Some(text) = self.notes.get(note) else {
            return Ok(None);
        };
        match text.parse::<Timestamp>() {
            Ok(time) => Ok(Some(time.into())),
            Err(error) => Err(Malformed {
                key: note.to_owned(),
                reason: format!("{error}; it is a time such as 2027-01-31T12:00:00Z"),
            }),
        }
    }

    pub(super) fn note_time(&mut self, note: &str, time: SystemTime) {
        self.notes.insert(note.to_owned(), rfc3339(time));
    }

    /// The longest lifetime of leaves of the signing root, if that is known.
    pub(super) fn longest_leaf(&self) -> Result<Option<Duration>, Malformed> {
        let Some(text) = self.notes.get(LONGEST_LEAF) else {
            return Ok(None);
        };
        let seconds = text.strip_suffix('s').and_then(|text| text.parse().ok());
        match seconds {
            Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
            None => Err(Malformed {
                key: LONGEST_LEAF.to_owned(),
                reason: format!("{text:?} is no number of seconds such as 86400s"),
            }),
        }
    }

    pub(super) fn note_leaf(&mut self, ttl: Duration) {
        self.notes
            .insert(LONGEST_LEAF.to_owned(), format!("{}s", ttl.as_secs()));
    }
}

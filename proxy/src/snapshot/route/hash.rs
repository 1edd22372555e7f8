//! What a consistent hash goes by.

use super::Field;
use crate::snapshot::pattern::Substitution;
use std::time::Duration;

/// A part of the hash of a request (`RouteAction.HashPolicy`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashPolicy {
    /// What is hashed.
    pub source: HashSource,
    /// With a hash so far, the policies after this one are not looked at (`terminal`).
    pub terminal: bool,
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashSource {
    /// A header field, after a substitution if there is one.
    Header(Field, Option<Substitution>),
    /// A cookie.
    Cookie(HashCookie),
    /// The first parameter of the query of this name.
    QueryParameter(Box<str>),
    /// The address of the caller.
    SourceAddress,
}

/// A cookie to hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashCookie {
    /// Its name.
    pub name: Box<str>,
    /// A request without the cookie is given one. Absent: it has no hash.
    pub issue: Option<IssuedCookie>,
}

/// A cookie that the proxy gives to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCookie {
    /// How long it lasts; zero is as long as the caller's session.
    pub ttl: Duration,
    /// The rest of `Set-Cookie`: path and attributes, each with `; ` before it.
    pub attributes: Box<str>,
}

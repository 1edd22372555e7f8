//! HTTP: the versions a proxy serves and speaks, and what it does to every request and response.
//!
//! Owns the wire of HTTP (`h1`, `h2`), protocol detection, header hygiene, trace context, path
//! normalisation, route matching, what a route changes of a message, and the responses that the proxy makes itself. Which requests go
//! where is decided in `inbound` and `outbound`.

pub mod authority;
pub mod body;
pub mod cookie;
pub mod detect;
pub mod fault;
pub mod grpc_timeout;
pub mod h1;
pub mod h2;
pub mod hash_key;
pub mod header_changes;
pub mod headers;
pub mod intake;
pub mod limits;
pub mod matches;
pub mod mirror;
pub mod normalise;
pub mod query;
pub mod redirect;
pub mod reply;
pub mod retry_after;
pub mod rewrite;
pub mod route;
pub mod status;
pub mod trace;

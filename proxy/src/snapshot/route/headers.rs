//! Changes to header fields.

use http::{HeaderName, HeaderValue};
use std::sync::Arc;

/// What is done to the fields of requests and of responses, in order: those of the route configuration, the virtual
/// host, the route and the backend in one list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderChanges {
    /// Before the request is sent.
    pub request: Arc<[HeaderChange]>,
    /// Before the response is handed on.
    pub response: Arc<[HeaderChange]>,
}

/// One change (`HeaderValueOption`, and the lists of fields to remove).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// The field is removed, all of its values.
    Remove(HeaderName),
    /// The field gets this value alone (`OVERWRITE_IF_EXISTS_OR_ADD`).
    Set(HeaderName, HeaderValue),
    /// The field gets this value alone if it is there (`OVERWRITE_IF_EXISTS`).
    Replace(HeaderName, HeaderValue),
    /// The field gets one more value (`APPEND_IF_EXISTS_OR_ADD`).
    Add(HeaderName, HeaderValue),
    /// The field is added unless it is there (`ADD_IF_ABSENT`).
    AddIfAbsent(HeaderName, HeaderValue),
}

//! Parts of HTTP that people write: names and values of headers, expressions, paths, hosts.

use super::{Invalid, check_name};
use crate::world::route::Hostname;
use http::{HeaderName, HeaderValue};
use regex::bytes::RegexBuilder;
use std::{net::IpAddr, sync::Arc};
use weft_xds_proto::names::EXPRESSION_BYTES;

/// The name of a header, in lower case.
pub(super) fn header_name(field: &str, text: &str) -> Result<Arc<str>, Invalid> {
    HeaderName::from_bytes(text.as_bytes())
        .map(|name| name.as_str().into())
        .map_err(|_| {
            let reason =
                format!("{text:?} is not the name of a header; write letters, digits and dashes");
            Invalid::new(field, reason)
        })
}

/// The value of a header.
pub(super) fn header_value(field: &str, text: &str) -> Result<Arc<str>, Invalid> {
    // Kubernetes and proxies trim; what was meant by a space at the end cannot be told.
    if HeaderValue::from_str(text).is_ok() && text.trim() == text {
        return Ok(text.into());
    }
    let reason = format!(
        "{text:?} is not the value of a header; leave out line breaks, control characters and spaces around it"
    );
    Err(Invalid::new(field, reason))
}

/// A regular expression, compiled as proxies do: of bytes, with ASCII classes, by itself and for a whole text.
pub(super) fn expression(field: &str, text: &str) -> Result<Arc<str>, Invalid> {
    let compile = |text: &str| {
        let mut builder = RegexBuilder::new(text);
        builder.unicode(false).size_limit(EXPRESSION_BYTES).build()
    };
    // By itself first: a bracket too many must not close the one around it.
    match compile(text).and_then(|_| compile(&format!(r"\A(?:{text})\z"))) {
        Ok(_) => Ok(text.into()),
        Err(regex::Error::CompiledTooBig(_)) => {
            let reason = format!("{text:?} is too large; write fewer repetitions");
            Err(Invalid::new(field, reason))
        }
        Err(error) => {
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            let reason = format!("{text:?} is not a regular expression (RE2): {why}");
            Err(Invalid::new(field, reason))
        }
    }
}

/// A path that matches what it says: absolute, and as it stands after normalisation (Gateway API's `HTTPPathMatch`).
pub(super) fn path(field: &str, text: &str) -> Result<(), Invalid> {
    let refused = |reason: String| Err(Invalid::new(field, reason));
    if !text.starts_with('/') {
        return refused(format!(
            "{text:?} is not a path; write one that begins with a slash"
        ));
    }
    let inner = ["//", "/./", "/../", "%2f", "%2F", "#", "?"];
    if let Some(part) = inner.iter().find(|part| text.contains(**part)) {
        return refused(format!(
            "{text:?} has {part:?} in it, which no path has when it is matched; leave it out"
        ));
    }
    if let Some(part) = ["/.", "/.."].iter().find(|part| text.ends_with(**part)) {
        return refused(format!(
            "{text:?} ends with {part:?}, which no path does when it is matched; leave it out"
        ));
    }
    let plain = |c: u8| {
        c.is_ascii_graphic()
            && !matches!(
                c,
                b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
            )
    };
    match text.bytes().all(plain) {
        true => Ok(()),
        false => refused(format!(
            "{text:?} has characters that no path has; write them percent-encoded"
        )),
    }
}

/// A host without wildcard, in lower case.
pub(super) fn host(field: &str, text: &str) -> Result<Arc<str>, Invalid> {
    if text.parse::<IpAddr>().is_ok() {
        let reason = format!("{text:?} is an address; write the name of a host");
        return Err(Invalid::new(field, reason));
    }
    check_name(field, text, true)?;
    Ok(text.into())
}

/// A host, perhaps with a wildcard for its first label (Gateway API's `Hostname`).
pub(super) fn hostname(field: &str, text: &str) -> Result<Hostname, Invalid> {
    let below = text.strip_prefix("*.");
    Ok(Hostname {
        name: host(field, below.unwrap_or(text))?,
        wildcard: below.is_some(),
    })
}

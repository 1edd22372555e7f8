//! Changes to header fields, from `HeaderValueOption` and the lists of fields to remove.

use crate::{
    snapshot::route::{HeaderChange, HeaderChanges},
    xds::convert::field::{At, Fault, required, unsupported},
};
use http::{
    HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use weft_xds_proto::envoy::envoy::config::{
    common::mutation_rules::v3::{HeaderMutation, header_mutation::Action},
    core::v3::{HeaderValueOption, header_value_option::HeaderAppendAction},
};

/// What frames a message or concerns one connection: the proxy's own business.
const OURS: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The changes of a route configuration, virtual host, route or backend.
#[derive(Debug, Default)]
pub(super) struct Level {
    request: Vec<HeaderChange>,
    response: Vec<HeaderChange>,
}

impl Level {
    pub(super) fn new(
        request_add: &[HeaderValueOption],
        request_remove: &[String],
        response_add: &[HeaderValueOption],
        response_remove: &[String],
    ) -> Result<Self, Fault> {
        Ok(Self {
            request: changes("request_headers", request_add, request_remove)?,
            response: changes("response_headers", response_add, response_remove)?,
        })
    }
}

/// One list of the changes of all levels, which are given from the outermost to the innermost. The innermost go first,
/// unless the most specific is to win (`most_specific_header_mutations_wins`).
pub(super) fn merge(levels: &[&Level], most_specific_wins: bool) -> HeaderChanges {
    let mut levels = levels.to_vec();
    if !most_specific_wins {
        levels.reverse();
    }
    HeaderChanges {
        request: levels
            .iter()
            .flat_map(|level| level.request.iter().cloned())
            .collect(),
        response: levels
            .iter()
            .flat_map(|level| level.response.iter().cloned())
            .collect(),
    }
}

/// Changes in the order in which they stand.
pub(super) fn mutations(mutations: &[HeaderMutation]) -> Result<Vec<HeaderChange>, Fault> {
    let mut changes = Vec::with_capacity(mutations.len());
    for (position, mutation) in mutations.iter().enumerate() {
        let at = format_args!("request_headers_mutations[{position}]");
        match required("action", mutation.action.as_ref()).at(at)? {
            Action::Remove(removed) => {
                changes.push(HeaderChange::Remove(name(removed).at("remove").at(at)?));
            }
            Action::Append(option) => changes.extend(change(option).at("append").at(at)?),
            Action::RemoveOnMatch(_) => unsupported("remove_on_match", true).at(at)?,
        }
    }
    Ok(changes)
}

/// A text that may hold commands (`%REQ(x)%`), of which there are none here: `%%` is a percent sign.
pub(super) fn literal(text: &str) -> Result<String, Fault> {
    let parts: Vec<&str> = text.split("%%").collect();
    if parts.iter().any(|part| part.contains('%')) {
        return Err(Fault::new(format!(
            "commands are not supported by this proxy, got {text:?}; write %% for a percent sign"
        )));
    }
    Ok(parts.join("%"))
}

/// Envoy's order: what is removed, then what replaces, then what is added.
fn changes(
    prefix: &str,
    add: &[HeaderValueOption],
    remove: &[String],
) -> Result<Vec<HeaderChange>, Fault> {
    let mut changes = Vec::with_capacity(add.len() + remove.len());
    for (position, removed) in remove.iter().enumerate() {
        let at = format_args!("{prefix}_to_remove[{position}]");
        changes.push(HeaderChange::Remove(name(removed).at(at)?));
    }
    for (position, option) in add.iter().enumerate() {
        changes.extend(change(option).at(format_args!("{prefix}_to_add[{position}]"))?);
    }
    changes.sort_by_key(|change| match change {
        HeaderChange::Remove(_) => 0,
        HeaderChange::Set(..) | HeaderChange::Replace(..) => 1,
        HeaderChange::Add(..) | HeaderChange::AddIfAbsent(..) => 2,
    });
    Ok(changes)
}

/// `None` for one that does nothing.
#[expect(deprecated, reason = "control planes still send append")]
fn change(option: &HeaderValueOption) -> Result<Option<HeaderChange>, Fault> {
    let header = required("header", option.header.as_ref())?;
    let name = name(&header.key).at("header.key")?;
    let value = match &header.raw_value[..] {
        [] => literal(&header.value).at("header.value")?.into_bytes(),
        raw => raw.to_vec(),
    };
    if value.is_empty() && !option.keep_empty_value {
        return Ok(None);
    }
    let value = HeaderValue::try_from(value)
        .map_err(|_| Fault::new("is not the value of a header field").at("header.value"))?;
    let action = HeaderAppendAction::try_from(option.append_action)
        .map_err(|_| Fault::new("is unknown").at("append_action"))?;
    Ok(Some(match (option.append.as_ref(), action) {
        (Some(append), HeaderAppendAction::AppendIfExistsOrAdd) if !append.value => {
            HeaderChange::Set(name, value)
        }
        (None, HeaderAppendAction::AppendIfExistsOrAdd) => HeaderChange::Add(name, value),
        (None, HeaderAppendAction::AddIfAbsent) => HeaderChange::AddIfAbsent(name, value),
        (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => HeaderChange::Set(name, value),
        (None, HeaderAppendAction::OverwriteIfExists) => HeaderChange::Replace(name, value),
        (Some(_), HeaderAppendAction::AppendIfExistsOrAdd) => HeaderChange::Add(name, value),
        (Some(_), _) => {
            return Err(Fault::new("must not be set beside append_action").at("append"));
        }
    }))
}

fn name(text: &str) -> Result<HeaderName, Fault> {
    let name = HeaderName::try_from(text)
        .map_err(|_| Fault::new(format!("{text:?} is not the name of a header field")))?;
    if name == HOST {
        return Err(Fault::new("the host is changed by host_rewrite_literal"));
    }
    if OURS.contains(&name) {
        return Err(Fault::new(format!("{name} is the business of the proxy")));
    }
    Ok(name)
}

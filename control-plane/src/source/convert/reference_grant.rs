//! `ReferenceGrant`.

use super::{Invalid, Verdict, check_name, spec, typed_spec, verdict};
use crate::{
    api::gateway::{GROUP, GrantFrom, ReferenceGrantSpec},
    world::{
        Object, ObjectKey,
        route::{self, ReferenceGrant, Referrer, RouteKind},
    },
};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn convert(key: ObjectKey, value: Value) -> Verdict {
    verdict(grant(key, value))
}

fn grant(key: ObjectKey, value: Value) -> Result<Object, Invalid> {
    let spec: ReferenceGrantSpec = typed_spec(spec(value, "ReferenceGrant")?.unwrap_or_default())?;
    for (field, empty) in [("from", spec.from.is_empty()), ("to", spec.to.is_empty())] {
        if empty {
            let reason = "is empty, which grants nothing; write one at least";
            return Err(Invalid::new(format!("spec.{field}"), reason));
        }
    }
    let from = (0..)
        .zip(&spec.from)
        .filter_map(|(i, from): (usize, _)| who(i, from).transpose())
        .collect::<Result<_, _>>()?;
    let services = spec
        .to
        .iter()
        .filter(|to| to.group.is_empty() && to.kind == "Service");
    let to = services.map(|to| to.name.as_deref().map(Arc::from));
    Ok(Object::ReferenceGrant(Arc::new(ReferenceGrant {
        key,
        from,
        to: to.collect(),
    })))
}

/// None for kinds of which Weft follows no references: others may.
fn who(i: usize, from: &GrantFrom) -> Result<Option<route::GrantFrom>, Invalid> {
    let kind = match (from.group.as_str(), from.kind.as_str()) {
        (GROUP, "HTTPRoute") => Referrer::Route(RouteKind::Http),
        (GROUP, "GRPCRoute") => Referrer::Route(RouteKind::Grpc),
        ("weft.dev", "TrafficPolicy") => Referrer::TrafficPolicy,
        _ => return Ok(None),
    };
    check_name(&format!("spec.from[{i}].namespace"), &from.namespace, false)?;
    Ok(Some(route::GrantFrom {
        kind,
        namespace: from.namespace.as_str().into(),
    }))
}

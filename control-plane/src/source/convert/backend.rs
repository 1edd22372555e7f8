//! References to service ports.

use super::{Invalid, check_name, port};
use crate::{
    api::gateway,
    world::{ObjectKey, policy::ServiceRef, route::Backend},
};
use std::num::NonZeroU16;

/// What a weight may be at most.
const LARGEST_WEIGHT: i32 = 1_000_000;

/// A service port, as a reference without group and kind names it.
pub(super) fn service(
    field: &str,
    namespace: &str,
    name: &str,
    number: i32,
) -> Result<ServiceRef, Invalid> {
    check_name(&format!("{field}.namespace"), namespace, false)?;
    check_name(&format!("{field}.name"), name, false)?;
    let number = port(format!("{field}.port"), number)?;
    let port = NonZeroU16::new(number)
        .ok_or_else(|| Invalid::new(format!("{field}.port"), "is 0; write 1 to 65535"))?;
    Ok(ServiceRef {
        service: ObjectKey::new(namespace, name),
        port,
    })
}

/// The service port that a reference of Gateway API names, from a namespace.
pub(super) fn reference(
    field: &str,
    from: &str,
    reference: &gateway::BackendRef,
) -> Result<ServiceRef, Invalid> {
    let kind = reference.kind.as_deref().unwrap_or("Service");
    let group = reference.group.as_deref().unwrap_or_default();
    if kind != "Service" || !matches!(group, "" | "core") {
        let reason = format!("{kind:?} of group {group:?} cannot serve requests; write a Service");
        return Err(Invalid::new(format!("{field}.kind"), reason));
    }
    let Some(number) = reference.port else {
        let reason = "is missing; write the number of a port of the service";
        return Err(Invalid::new(format!("{field}.port"), reason));
    };
    if reference.filters.iter().flatten().next().is_some() {
        let reason =
            "are not supported for a single backend; put them in the rule, or make it two rules";
        return Err(Invalid::new(format!("{field}.filters"), reason));
    }
    let namespace = reference.namespace.as_deref().unwrap_or(from);
    service(field, namespace, &reference.name, number)
}

/// The backends of a rule. `answered`: a filter answers its requests.
pub(super) fn backends(
    rule: &str,
    from: &str,
    references: &[gateway::BackendRef],
    answered: bool,
) -> Result<Vec<Backend>, Invalid> {
    let field = format!("{rule}.backendRefs");
    let mut backends = Vec::with_capacity(references.len());
    for (i, item) in references.iter().enumerate() {
        let field = format!("{field}[{i}]");
        let weight = item.weight.unwrap_or(1);
        let weight = u32::try_from(weight)
            .ok()
            .filter(|_| weight <= LARGEST_WEIGHT)
            .ok_or_else(|| {
                let reason = format!("{weight} is out of range; write 0 to {LARGEST_WEIGHT}");
                Invalid::new(format!("{field}.weight"), reason)
            })?;
        backends.push(Backend {
            service: reference(&field, from, item)?,
            weight,
        });
    }
    match (answered, backends.is_empty()) {
        (true, false) => {
            let reason =
                "stands beside RequestRedirect, which answers every request; remove one of them";
            Err(Invalid::new(field, reason))
        }
        (false, true) => {
            let reason = "is empty, so that nobody would serve the requests; name a service, which may be the parent itself";
            Err(Invalid::new(field, reason))
        }
        (false, false) if backends.iter().all(|backend| backend.weight == 0) => {
            let reason = "have a weight of 0 all, so that nobody would serve the requests; write 1 or more for one of them";
            Err(Invalid::new(field, reason))
        }
        _ => Ok(backends),
    }
}

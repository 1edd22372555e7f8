//! What HTTPRoute and GRPCRoute have in common.

use super::{
    Invalid, Verdict, backend, check_name, created, port, refused, spec, text, typed_spec, verdict,
};
use crate::{
    api::gateway::{self, GROUP, HeaderModifier, ParentRef, RequestMirror},
    world::{
        Object, ObjectKey,
        policy::Mirror,
        quantity::Share,
        route::{
            HeaderChanges, Hostname, Parent, Route, RouteKind, RouteRef, Rule, TextMatch,
            ValueMatch,
        },
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

/// Converts a route, whose kind says what its rules and hostnames are.
pub(super) fn convert<T: DeserializeOwned>(
    kind: RouteKind,
    key: ObjectKey,
    value: Value,
    parts: impl Fn(&str, T) -> Result<Parts, Invalid>,
) -> Verdict {
    let parents = match parents(&key, &value) {
        Ok(parents) => parents,
        Err(invalid) => return refused(invalid),
    };
    // Those of gateways are somebody else's, to be understood by them.
    if parents.is_empty() {
        return Verdict::Unused;
    }
    let route = || {
        let created = created(&value)?;
        let spec = spec(value.clone(), kind.name())?.unwrap_or_default();
        let Parts { hostnames, rules } = parts(&key.namespace, typed_spec(spec)?)?;
        check_rule_names(&rules)?;
        Ok(Object::Route(Arc::new(Route {
            reference: RouteRef {
                kind,
                key: key.clone(),
            },
            created,
            parents: parents.clone(),
            hostnames: self::hostnames(&hostnames)?,
            rules: rules.into_iter().map(Arc::new).collect(),
        })))
    };
    verdict(route())
}

/// What a kind of route says in its own way.
pub(super) struct Parts {
    pub(super) hostnames: Vec<String>,
    pub(super) rules: Vec<Rule>,
}

/// The services among the parents of a route.
fn parents(key: &ObjectKey, value: &Value) -> Result<Vec<Parent>, Invalid> {
    let field = "spec.parentRefs";
    let listed = value.get("spec").and_then(|spec| spec.get("parentRefs"));
    let listed = listed
        .and_then(Value::as_array)
        .map_or(&[][..], |refs| refs);
    let mut parents: Vec<Parent> = Vec::new();
    for (position, item) in listed.iter().enumerate() {
        if item.get("kind").and_then(Value::as_str) != Some("Service") {
            continue;
        }
        let field = format!("{field}[{position}]");
        let at = |name: &str| format!("{field}.{name}");
        let item: ParentRef = super::typed(item.clone()).map_err(|invalid| Invalid {
            field: match invalid.field.as_str() {
                "." => field.clone(),
                inner => at(inner),
            },
            ..invalid
        })?;
        // The group that is written is often forgotten; there is one kind Service only.
        let group = item.group.as_deref().unwrap_or_default();
        if !matches!(group, "" | "core" | GROUP) {
            continue;
        }
        let namespace = item.namespace.as_deref().unwrap_or(&key.namespace);
        check_name(&at("namespace"), namespace, false)?;
        check_name(&at("name"), &item.name, false)?;
        if let Some(section) = &item.section_name {
            check_name(&at("sectionName"), section, false)?;
        }
        let parent = Parent {
            position,
            service: ObjectKey::new(namespace, item.name.as_str()),
            port: item
                .port
                .map(|number| port(at("port"), number))
                .transpose()?,
            section: item.section_name.as_deref().map(Arc::from),
        };
        let same = |other: &Parent| {
            Parent {
                position,
                ..other.clone()
            } == parent
        };
        if let Some(other) = parents.iter().find(|other| same(other)) {
            let reason = format!(
                "says the same as spec.parentRefs[{}]; remove one of them",
                other.position
            );
            return Err(Invalid::new(field, reason));
        }
        parents.push(parent);
    }
    Ok(parents)
}

fn hostnames(listed: &[String]) -> Result<BTreeSet<Hostname>, Invalid> {
    let named =
        |(i, hostname): (usize, &String)| text::hostname(&format!("spec.hostnames[{i}]"), hostname);
    listed.iter().enumerate().map(named).collect()
}

fn check_rule_names(rules: &[Rule]) -> Result<(), Invalid> {
    for (i, rule) in rules.iter().enumerate() {
        let Some(name) = &rule.name else { continue };
        let field = format!("spec.rules[{i}].name");
        check_name(&field, name, true)?;
        if name.bytes().all(|c| c.is_ascii_digit()) {
            // What a rule without a name is called by its place, in telemetry and by limits.
            let reason = format!("{name:?} is the place of a rule; begin the name with a letter");
            return Err(Invalid::new(field, reason));
        }
        if rules[..i]
            .iter()
            .any(|other| other.name.as_ref() == Some(name))
        {
            let reason = format!("{name:?} is the name of another rule, too; rename one of them");
            return Err(Invalid::new(field, reason));
        }
    }
    Ok(())
}

/// Matches on headers, whose names are the same in upper and lower case, or on query parameters, whose are not.
pub(super) fn values(
    field: &str,
    matches: &[gateway::ValueMatch],
    name: impl Fn(&str, &str) -> Result<Arc<str>, Invalid>,
) -> Result<Vec<ValueMatch>, Invalid> {
    let mut values: Vec<ValueMatch> = Vec::with_capacity(matches.len());
    for (i, item) in matches.iter().enumerate() {
        let at = |part: &str| format!("{field}[{i}].{part}");
        let name = name(&at("name"), &item.name)?;
        if values.iter().any(|other| other.name == name) {
            let reason = format!(
                "{name:?} is matched twice, and only the first would count; remove one of them"
            );
            return Err(Invalid::new(at("name"), reason));
        }
        let value = match item.kind.as_deref() {
            None | Some("Exact") => TextMatch::Exact(item.value.as_str().into()),
            Some("RegularExpression") => {
                TextMatch::Regex(text::expression(&at("value"), &item.value)?)
            }
            Some(other) => {
                return Err(unknown_match(
                    at("type"),
                    other,
                    "Exact or RegularExpression",
                ));
            }
        };
        values.push(ValueMatch { name, value });
    }
    Ok(values)
}

pub(super) fn unknown_match(field: String, kind: &str, known: &str) -> Invalid {
    Invalid::new(
        field,
        format!("{kind:?} is not a type of match; write {known}"),
    )
}

/// A filter of a type whose field is missing, or that has the field of another.
pub(super) fn filter_body<T>(
    filter: &str,
    kind: &str,
    name: &str,
    body: Option<T>,
    present: &[(&str, bool)],
) -> Result<T, Invalid> {
    if let Some((other, _)) = present.iter().find(|(other, set)| *set && *other != name) {
        let reason = format!("is not of type {kind}; make it a filter of its own");
        return Err(Invalid::new(format!("{filter}.{other}"), reason));
    }
    body.ok_or_else(|| {
        let reason = format!("is missing in a filter of type {kind}; write it");
        Invalid::new(format!("{filter}.{name}"), reason)
    })
}

/// A type of filter that Weft has not.
pub(super) fn unknown_filter(filter: &str, kind: &str, known: &str) -> Invalid {
    let reason = format!("{kind:?} is not a filter that Weft has; write {known}");
    Invalid::new(format!("{filter}.type"), reason)
}

/// Changes of headers: each name in one place only, as their order would decide otherwise.
pub(super) fn header_changes(
    field: &str,
    modifier: &HeaderModifier,
) -> Result<HeaderChanges, Invalid> {
    let mut seen = BTreeSet::new();
    let mut name = |field: &str, name: &str| {
        let name = text::header_name(field, name)?;
        if &*name == "host" {
            let reason =
                "is not changed like other headers; write a filter URLRewrite with hostname";
            return Err(Invalid::new(field, reason));
        }
        if !seen.insert(name.clone()) {
            let reason = format!("{name:?} is changed twice; remove one of them");
            return Err(Invalid::new(field, reason));
        }
        Ok(name)
    };
    let mut pairs = |part: &str, listed: &[gateway::NameValue]| {
        let mut pairs = Vec::with_capacity(listed.len());
        for (i, item) in listed.iter().enumerate() {
            let field = format!("{field}.{part}[{i}]");
            pairs.push((
                name(&format!("{field}.name"), &item.name)?,
                text::header_value(&format!("{field}.value"), &item.value)?,
            ));
        }
        Ok(pairs)
    };
    let set = pairs("set", &modifier.set)?;
    let add = pairs("add", &modifier.add)?;
    let mut remove = Vec::with_capacity(modifier.remove.len());
    for (i, item) in modifier.remove.iter().enumerate() {
        remove.push(name(&format!("{field}.remove[{i}]"), item)?);
    }
    if set.is_empty() && add.is_empty() && remove.is_empty() {
        let reason = "changes nothing; write set, add or remove";
        return Err(Invalid::new(field, reason));
    }
    Ok(HeaderChanges { set, add, remove })
}

/// A mirror, asked for by a route of a namespace.
pub(super) fn mirror(field: &str, from: &str, mirror: &RequestMirror) -> Result<Mirror, Invalid> {
    let share = match (mirror.percent, &mirror.fraction) {
        (None, None) => Share::ALL,
        (Some(_), Some(_)) => {
            let reason = "stands beside percent; remove one of them";
            return Err(Invalid::new(format!("{field}.fraction"), reason));
        }
        (Some(percent), None) => u32::try_from(percent)
            .ok()
            .filter(|percent| *percent <= 100)
            .map(Share::percent)
            .ok_or_else(|| {
                let reason = format!("{percent} is out of range; write 0 to 100");
                Invalid::new(format!("{field}.percent"), reason)
            })?,
        (None, Some(fraction)) => {
            let whole = i64::from(fraction.denominator.unwrap_or(100));
            let part = i64::from(fraction.numerator);
            if whole < 1 || !(0..=whole).contains(&part) {
                let reason = format!("{part} of {whole} is no share; write 0 to the denominator");
                return Err(Invalid::new(format!("{field}.fraction"), reason));
            }
            // At most a million, as the part is at most the whole.
            Share::from_millionths(u32::try_from(part * 1_000_000 / whole).unwrap_or(u32::MAX))
        }
    };
    let reference = &mirror.backend_ref;
    if reference.weight.is_some() {
        let reason = "has no meaning for a mirror; write percent beside backendRef";
        return Err(Invalid::new(format!("{field}.backendRef.weight"), reason));
    }
    Ok(Mirror {
        from: from.into(),
        backend: backend::reference(&format!("{field}.backendRef"), from, reference)?,
        share,
    })
}

/// A field of Gateway API that is known and not supported.
pub(super) fn unsupported(
    field: String,
    value: Option<&Value>,
    instead: &str,
) -> Result<(), Invalid> {
    match value {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(Invalid::new(field, format!("is not supported; {instead}"))),
    }
}

#[cfg(test)]
mod tests;

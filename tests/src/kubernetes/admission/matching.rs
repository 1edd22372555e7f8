//! Whether a webhook is concerned by a request.

use crate::kubernetes::{selector::Labels, status::Status};
use serde_json::{Value, json};

/// A request, as rules and selectors see it.
pub(super) struct Subject<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    /// With its subresource: `pods/status`.
    pub(super) resource: String,
    pub(super) operation: &'static str,
    pub(super) is_namespaced: bool,
    /// The namespace of the object, or the object where it is a namespace.
    pub(super) namespace: Option<&'a Value>,
    pub(super) object: &'a Value,
    pub(super) old: Option<&'a Value>,
}

/// Whether rules and selectors match.
pub(super) fn concerns(webhook: &Value, subject: &Subject<'_>) -> Result<bool, Status> {
    let mut rules = webhook["rules"].as_array().into_iter().flatten();
    if !rules.any(|rule| covers(rule, subject)) {
        return Ok(false);
    }
    let namespaces = Labels::from_object(&webhook["namespaceSelector"])?;
    let is_in_namespace = namespaces.is_empty()
        || subject
            .namespace
            .is_none_or(|namespace| namespaces.matches(namespace));
    let objects = Labels::from_object(&webhook["objectSelector"])?;
    let is_object = objects.is_empty()
        || (!subject.object.is_null() && objects.matches(subject.object))
        || subject.old.is_some_and(|old| objects.matches(old));
    Ok(is_in_namespace && is_object)
}

fn covers(rule: &Value, subject: &Subject<'_>) -> bool {
    let has = |field: &str, wanted: &str| {
        let values = rule[field].as_array().into_iter().flatten();
        let mut values = values.filter_map(Value::as_str);
        values.any(|value| value == "*" || value == wanted)
    };
    let (plural, subresource) = subject
        .resource
        .split_once('/')
        .map_or((subject.resource.as_str(), ""), |parts| parts);
    let resources = rule["resources"].as_array().into_iter().flatten();
    let mut resources = resources.filter_map(Value::as_str);
    let is_resource = resources.any(|pattern| {
        let (of, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
        let is_plural = of == "*" || of == plural;
        is_plural && (sub == subresource || sub == "*")
    });
    let is_in_scope = match rule["scope"].as_str() {
        Some("Namespaced") => subject.is_namespaced,
        Some("Cluster") => !subject.is_namespaced,
        _ => true,
    };
    is_resource
        && is_in_scope
        && has("apiGroups", subject.group)
        && has("apiVersions", subject.version)
        && (has("operations", subject.operation) || rule["operations"] == json!(["*"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook() -> Value {
        json!({
            "rules": [{ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "Namespaced" }],
            "namespaceSelector": { "matchLabels": { "weft.dev/inject": "enabled" } },
            "objectSelector": { "matchExpressions": [{ "key": "weft.dev/inject", "operator": "NotIn", "values": ["false"] }] },
        })
    }

    fn is_asked(resource: &str, operation: &'static str, namespace: Value, pod: Value) -> bool {
        let subject = Subject {
            group: "",
            version: "v1",
            resource: resource.to_owned(),
            operation,
            is_namespaced: true,
            namespace: Some(&namespace),
            object: &pod,
            old: None,
        };
        concerns(&webhook(), &subject).unwrap()
    }

    #[test]
    fn rules_and_selectors_must_both_match() {
        let labelled = || json!({ "metadata": { "labels": { "weft.dev/inject": "enabled" } } });
        let plain = || json!({ "metadata": {} });
        let opted_out = || json!({ "metadata": { "labels": { "weft.dev/inject": "false" } } });
        assert!(is_asked("pods", "CREATE", labelled(), plain()));
        assert!(!is_asked("pods", "UPDATE", labelled(), plain()));
        assert!(!is_asked("pods/status", "CREATE", labelled(), plain()));
        assert!(!is_asked("services", "CREATE", labelled(), plain()));
        assert!(!is_asked("pods", "CREATE", plain(), plain()));
        assert!(!is_asked("pods", "CREATE", labelled(), opted_out()));
    }
}

//! Which objects a list, a watch or a webhook is about: label and field selectors.

use super::status::Status;
use serde_json::Value;

/// What must hold of an object's labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels(Vec<Requirement>);

/// What must hold of one label.
#[derive(Debug, Clone, PartialEq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Labels {
    /// Reads the query's form: `a=b,c!=d,e in (f,g),h,!i`.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let parts = split(text);
        let requirements = parts.iter().map(|part| requirement(part.trim()));
        let requirements: Option<Vec<_>> = requirements.collect();
        requirements.map(Self).ok_or_else(|| {
            Status::bad_request(format!(
                "unable to parse requirement of selector \"{text}\""
            ))
        })
    }

    /// Reads a LabelSelector: `matchLabels` and `matchExpressions`. Nothing matches everything.
    pub fn from_object(selector: &Value) -> Result<Self, Status> {
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            requirements.push(Requirement::In(key.clone(), vec![text(value)]));
        }
        for expression in selector["matchExpressions"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let key = text(&expression["key"]);
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values.map(text).collect();
            requirements.push(match expression["operator"].as_str() {
                Some("In") => Requirement::In(key, values),
                Some("NotIn") => Requirement::NotIn(key, values),
                Some("Exists") => Requirement::Exists(key),
                Some("DoesNotExist") => Requirement::Absent(key),
                other => {
                    return Err(Status::bad_request(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            });
        }
        Ok(Self(requirements))
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object has such labels.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels[key]
                .as_str()
                .is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Requirement::NotIn(key, values) => labels[key]
                .as_str()
                .is_none_or(|value| values.iter().all(|unwanted| unwanted != value)),
            Requirement::Exists(key) => labels[key].is_string(),
            Requirement::Absent(key) => !labels[key].is_string(),
        })
    }
}

/// Splits at commas that are not within parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    if let Some(key) = part.strip_prefix('!') {
        return Some(Requirement::Absent(key.trim().to_owned()));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Some(Requirement::NotIn(trimmed(key), vec![trimmed(value)]));
    }
    if let Some((key, value)) = part.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value);
        return Some(Requirement::In(trimmed(key), vec![trimmed(value)]));
    }
    if let Some((key, rest)) = part.split_once(char::is_whitespace) {
        let (operator, values) = rest.trim().split_once('(')?;
        let values = values.trim().strip_suffix(')')?;
        let values = values.split(',').map(trimmed).collect();
        return match operator.trim() {
            "in" => Some(Requirement::In(trimmed(key), values)),
            "notin" => Some(Requirement::NotIn(trimmed(key), values)),
            _ => None,
        };
    }
    let is_key = |character: char| character.is_ascii_alphanumeric() || "-_./".contains(character);
    part.chars()
        .all(is_key)
        .then(|| Requirement::Exists(part.to_owned()))
}

fn trimmed(text: &str) -> String {
    text.trim().to_owned()
}

/// What must hold of an object's fields: paths, values, and whether they are to be equal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fields(Vec<(String, String, bool)>);

/// The fields that Kubernetes selects by, beside name and namespace.
const SELECTABLE: &[(&str, &[&str])] = &[
    (
        "Pod",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
        ],
    ),
    ("Secret", &["type"]),
    ("Namespace", &["status.phase"]),
    (
        "Event",
        &[
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.uid",
            "regarding.kind",
            "regarding.name",
            "regarding.namespace",
            "reason",
            "type",
        ],
    ),
];

impl Fields {
    /// Reads the query's form for objects of a kind: `spec.nodeName=a,metadata.name!=b`.
    pub fn parse(text: &str, kind: &str) -> Result<Self, Status> {
        let mut terms = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (path, value, is_equal) = if let Some((path, value)) = part.split_once("!=") {
                (path, value, false)
            } else if let Some((path, value)) = part.split_once('=') {
                (path, value.strip_prefix('=').unwrap_or(value), true)
            } else {
                return Err(Status::bad_request(format!(
                    "invalid selector: '{part}'; can't understand '{part}'"
                )));
            };
            let known = SELECTABLE.iter().filter(|(of, _)| *of == kind);
            let mut known = known.flat_map(|(_, fields)| *fields);
            if !matches!(path, "metadata.name" | "metadata.namespace")
                && !known.any(|field| *field == path)
            {
                return Err(Status::bad_request(format!(
                    "field label not supported: {path}"
                )));
            }
            terms.push((path.to_owned(), value.to_owned(), is_equal));
        }
        Ok(Self(terms))
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one name that can match, for the rights that are limited to names.
    pub fn name(&self) -> Option<&str> {
        let mut terms = self.0.iter();
        let name = terms.find(|(path, _, is_equal)| path == "metadata.name" && *is_equal);
        name.map(|(_, value, _)| value.as_str())
    }

    /// Whether an object has such fields.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(path, wanted, is_equal)| {
            let found = path.split('.').fold(object, |value, field| &value[field]);
            (text(found) == *wanted) == *is_equal
        })
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object() -> Value {
        json!({
            "metadata": { "name": "a", "labels": { "app": "web", "tier": "front" } },
            "spec": { "nodeName": "n1" },
        })
    }

    #[test]
    fn labels_are_selected_in_every_form_of_a_query() {
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (web, api),!gone", true),
            ("app notin (web)", false),
            ("gone notin (web)", true),
            ("tier", true),
            ("gone", false),
            ("gone!=x", true),
        ];
        for (query, expected) in cases {
            let labels = Labels::parse(query).unwrap();
            assert_eq!(labels.matches(&object()), expected, "{query}");
        }
    }

    #[test]
    fn a_selector_that_is_none_is_refused() {
        assert_eq!(Labels::parse("app of (x)").unwrap_err().code, 400);
    }

    #[test]
    fn labels_are_selected_by_an_object() {
        let selector = json!({
            "matchLabels": { "app": "web" },
            "matchExpressions": [
                { "key": "tier", "operator": "NotIn", "values": ["back"] },
                { "key": "gone", "operator": "DoesNotExist" },
            ],
        });
        assert!(Labels::from_object(&selector).unwrap().matches(&object()));
        assert!(Labels::from_object(&json!({})).unwrap().is_empty());
    }

    #[test]
    fn fields_are_selected_as_far_as_the_kind_has_them() {
        let fields = Fields::parse("spec.nodeName=n1,metadata.name!=b", "Pod").unwrap();
        assert!(fields.matches(&object()));
        let refused = Fields::parse("spec.nodeName=n1", "Service").unwrap_err();
        assert_eq!(refused.message, "field label not supported: spec.nodeName");
    }
}

//! Refusals, as Kubernetes words them.

use serde_json::{Value, json};

/// Why a request was refused: a `Status` object of the API.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct Status {
    /// The status of the response.
    pub code: u16,
    /// The word that clients tell refusals apart by.
    pub reason: &'static str,
    /// What people read.
    pub message: String,
    /// What programs read.
    pub details: Value,
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: json!({}),
        }
    }

    /// The object is not there. `resource` is qualified: `deployments.apps`.
    pub fn not_found(resource: &str, name: &str) -> Self {
        let mut status = Self::new(404, "NotFound", format!("{resource} \"{name}\" not found"));
        status.details = json!({ "name": name, "kind": resource });
        status
    }

    /// The path leads nowhere.
    pub fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    /// The name is taken.
    pub fn already_exists(resource: &str, name: &str) -> Self {
        let message = format!("{resource} \"{name}\" already exists");
        let mut status = Self::new(409, "AlreadyExists", message);
        status.details = json!({ "name": name, "kind": resource });
        status
    }

    /// The object is not what it was when the writer read it.
    pub fn changed_meanwhile(resource: &str, name: &str) -> Self {
        Self::precondition(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// What the writer insists on does not hold.
    pub fn precondition(resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        let mut status = Self::new(409, "Conflict", message);
        status.details = json!({ "name": name, "kind": resource });
        status
    }

    /// Fields that an apply would take from their managers: pairs of manager and field.
    pub fn owned_by_others(conflicts: &[(String, String)]) -> Self {
        let plural = if conflicts.len() == 1 { "" } else { "s" };
        let mut message = format!("Apply failed with {} conflict{plural}:", conflicts.len());
        match conflicts {
            [(manager, field)] => message += &format!(" conflict with {manager}: {field}"),
            _ => {
                let mut last = None;
                for (manager, field) in conflicts {
                    if last != Some(manager) {
                        message += &format!(" conflicts with {manager}:");
                        last = Some(manager);
                    }
                    message += &format!("\n- {field}");
                }
            }
        }
        let mut status = Self::new(409, "Conflict", message);
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, field)| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {manager}"),
                    "field": field,
                })
            })
            .collect();
        status.details = json!({ "causes": causes });
        status
    }

    /// Something is wrong with the object. `kind` is qualified: `Deployment.apps`; errors begin with their field.
    pub fn invalid(kind: &str, name: &str, errors: Vec<String>) -> Self {
        let all = match errors.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status = Self::new(
            422,
            "Invalid",
            format!("{kind} \"{name}\" is invalid: {all}"),
        );
        let causes: Vec<Value> = errors
            .iter()
            .map(|error| {
                let (field, message) = error.split_once(": ").unwrap_or(("", error));
                json!({ "reason": "FieldValueInvalid", "field": field, "message": message })
            })
            .collect();
        let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        status.details = json!({ "name": name, "kind": kind, "group": group, "causes": causes });
        status
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The caller could not be told.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// The caller may not do that.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// The resource does not know the method.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// What is asked for is no longer known.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The body is of a kind that nobody reads here.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// An admission webhook said no.
    pub fn denied(webhook: &str, code: u16, why: &str) -> Self {
        let reason = if why.is_empty() {
            "without explanation"
        } else {
            why
        };
        let joint = if why.is_empty() { " " } else { ": " };
        let message = format!("admission webhook \"{webhook}\" denied the request{joint}{reason}");
        Self::new(code, "Forbidden", message)
    }

    /// Something that the caller is not to blame for.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
    }

    /// A fault that a test asked for.
    pub fn unavailable() -> Self {
        Self::new(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        )
    }

    /// The body of the response.
    pub fn object(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        })
    }
}

//! What is to be said of an object: a function of the object, of what is found in the world, and of what proxies have.
//!
//! Conditions and reasons are those of Gateway API where it has one (`PolicyConditionReason`, `RouteConditionReason`).

use crate::{
    api::status::{Reference, Truth},
    source::convert::Invalid,
    world::{Cause, Finding},
    xds::Progress,
};

use super::subject::{Spoken, Subject, Told};

/// What is said of an object for one of the things that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// What it is for; `None` for the mesh.
    pub(super) reference: Option<Reference>,
    pub(super) statements: Vec<Statement>,
}

/// A condition before it is known since when it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) ty: &'static str,
    pub(super) truth: Truth,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Messages are no longer than `metav1.Condition` lets them be, and nobody reads as much.
const MESSAGE_BYTES: usize = 4096;

/// How many refusals of proxies are told of at once.
const REFUSALS: usize = 3;

/// What is to be said of an object; nothing of one that is none of Weft's business.
pub(super) fn report(subject: &Subject, findings: &[Finding], progress: &Progress) -> Vec<Entry> {
    match &subject.verdict {
        Told::Foreign => Vec::new(),
        Told::Bad(invalid) => entries(subject, |_| refused(subject.spoken, invalid)),
        Told::Good(_) => entries(subject, |position| {
            accepted(subject, position, findings, progress)
        }),
    }
}

/// An entry for each thing that the object is for, and that is a matter of Weft's.
fn entries(subject: &Subject, statements: impl Fn(usize) -> Vec<Statement>) -> Vec<Entry> {
    let entry = |reference: Option<&Reference>, position| Entry {
        reference: reference.cloned(),
        statements: statements(position),
    };
    match subject.spoken {
        Spoken::MeshConfig => vec![entry(None, 0)],
        Spoken::TrafficPolicy if subject.references.is_empty() => {
            // Its targets cannot be read: said of itself, where people look for it.
            let itself = Reference {
                group: Some("weft.dev".to_owned()),
                kind: Some(subject.spoken.kind().to_owned()),
                name: subject.key.name.to_string(),
                ..Reference::default()
            };
            vec![entry(Some(&itself), 0)]
        }
        Spoken::TrafficPolicy => (0..)
            .zip(&subject.references)
            .map(|(position, reference)| entry(Some(reference), position))
            .collect(),
        // Other parents, such as gateways, are others' to speak of.
        Spoken::HttpRoute | Spoken::GrpcRoute => (0..)
            .zip(&subject.references)
            .filter(|(_, reference)| reference.kind.as_deref() == Some("Service"))
            .map(|(position, reference)| entry(Some(reference), position))
            .collect(),
    }
}

fn refused(spoken: Spoken, invalid: &Invalid) -> Vec<Statement> {
    let Invalid { field, reason } = invalid;
    let message = format!("{field}: {reason}");
    let mut statements = vec![no(
        "Accepted",
        match spoken {
            Spoken::MeshConfig | Spoken::TrafficPolicy => "Invalid",
            Spoken::HttpRoute | Spoken::GrpcRoute => "UnsupportedValue",
        },
        message.clone(),
    )];
    let of_backend = field.contains("backendRef");
    if of_backend && (field.ends_with(".kind") || field.ends_with(".group")) {
        statements.push(no("ResolvedRefs", "InvalidKind", message));
    }
    statements.push(no(
        "Programmed",
        "Invalid",
        "not as it is written; see Accepted".to_owned(),
    ));
    statements
}

fn accepted(
    subject: &Subject,
    position: usize,
    findings: &[Finding],
    progress: &Progress,
) -> Vec<Statement> {
    let against = |finding: &&Finding| is_of(subject.spoken, position, &finding.field);
    let acceptance = findings.iter().find(against);
    let said = |finding: &Finding| format!("{}: {}", finding.field, finding.reason);
    let mut statements = vec![match acceptance {
        None => yes("Accepted", "Accepted", String::new()),
        Some(finding) => no(
            "Accepted",
            reason(subject.spoken, finding.cause),
            said(finding),
        ),
    }];
    let backends: Vec<_> = findings
        .iter()
        .filter(|finding| matches!(finding.cause, Cause::NoBackend | Cause::NotPermitted))
        .collect();
    if subject.spoken != Spoken::MeshConfig {
        statements.push(match backends.first() {
            None => yes("ResolvedRefs", "ResolvedRefs", String::new()),
            Some(first) => {
                let all: Vec<_> = backends.iter().map(|finding| said(finding)).collect();
                no(
                    "ResolvedRefs",
                    reason(subject.spoken, first.cause),
                    all.join("\n"),
                )
            }
        });
    }
    statements.push(match acceptance {
        None => programmed(progress),
        Some(_) => no(
            "Programmed",
            "Invalid",
            "not in force here; see Accepted".to_owned(),
        ),
    });
    statements
}

/// Whether a field is that of the target or parent at a position.
fn is_of(spoken: Spoken, position: usize, field: &str) -> bool {
    let list = match spoken {
        Spoken::MeshConfig => return false,
        Spoken::TrafficPolicy => "targetRefs",
        Spoken::HttpRoute | Spoken::GrpcRoute => "parentRefs",
    };
    field
        .strip_prefix(&format!("spec.{list}[{position}]"))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn reason(spoken: Spoken, cause: Cause) -> &'static str {
    match cause {
        Cause::NoTarget => "TargetNotFound",
        Cause::Conflict => "Conflicted",
        Cause::NoParent => "NoMatchingParent",
        Cause::ParentRefuses if spoken == Spoken::TrafficPolicy => "Invalid",
        Cause::ParentRefuses => "NotAllowedByListeners",
        Cause::NoBackend => "BackendNotFound",
        Cause::NotPermitted => "RefNotPermitted",
    }
}

fn programmed(progress: &Progress) -> Statement {
    let Progress {
        concerned,
        acked,
        refusals,
    } = progress;
    let mut message = format!("{acked}/{concerned} proxies");
    for refusal in refusals.iter().take(REFUSALS) {
        message += &format!("; refused by {}: {}", refusal.node, refusal.message);
    }
    if refusals.len() > REFUSALS {
        message += &format!("; and by {} more", refusals.len() - REFUSALS);
    }
    match acked == concerned {
        true => yes("Programmed", "Programmed", message),
        false if refusals.is_empty() => no("Programmed", "Pending", message),
        false => no("Programmed", "Refused", message),
    }
}

fn yes(ty: &'static str, reason: &'static str, message: String) -> Statement {
    statement(ty, Truth::True, reason, message)
}

fn no(ty: &'static str, reason: &'static str, message: String) -> Statement {
    statement(ty, Truth::False, reason, message)
}

fn statement(
    ty: &'static str,
    truth: Truth,
    reason: &'static str,
    mut message: String,
) -> Statement {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
    Statement {
        ty,
        truth,
        reason,
        message,
    }
}

#[cfg(test)]
mod tests;

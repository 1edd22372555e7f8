//! From what is to be said to a status: what others say of the object stays, and a condition keeps the time since when
//! it is so. A function of values.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    report::{Entry, Statement},
    subject::{Spoken, Subject},
};
use crate::api::status::{
    AncestorStatus, CONTROLLER_NAME, Condition, ParentStatus, Reference, Truth,
};

/// A status that differs from the one that the API has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    /// The status as it should be, whole.
    pub(super) status: Value,
    /// Whether anything but numbers of proxies differs: nobody waits for those.
    pub(super) pressing: bool,
    /// What has come to be wrong.
    pub(super) bad_news: Vec<Statement>,
}

/// What has to be written, if anything. `now` is RFC 3339.
pub(super) fn difference(subject: &Subject, entries: &[Entry], now: &str) -> Option<Difference> {
    let mut news = News::default();
    let status = match subject.spoken {
        Spoken::MeshConfig => {
            let held: Vec<Condition> = held(&subject.status["conditions"]);
            let entry = entries.first()?;
            let wanted = news.conditions(subject, &held, &entry.statements, now);
            (wanted != held).then(|| json!({"conditions": wanted}))
        }
        Spoken::TrafficPolicy => {
            let make = |reference, conditions| AncestorStatus {
                ancestor_ref: reference,
                controller_name: CONTROLLER_NAME.to_owned(),
                conditions,
            };
            list(subject, "ancestors", 16, entries, &mut news, now, make)
        }
        Spoken::HttpRoute | Spoken::GrpcRoute => {
            let make = |reference, conditions| ParentStatus {
                parent_ref: reference,
                controller_name: CONTROLLER_NAME.to_owned(),
                conditions,
            };
            list(subject, "parents", 32, entries, &mut news, now, make)
        }
    }?;
    Some(Difference {
        status,
        pressing: news.pressing,
        bad_news: news.bad,
    })
}

/// An entry of a list that several controllers write to.
trait Listed: Serialize + DeserializeOwned + PartialEq {
    fn parts(&self) -> (&Reference, &[Condition]);
}

impl Listed for AncestorStatus {
    fn parts(&self) -> (&Reference, &[Condition]) {
        (&self.ancestor_ref, &self.conditions)
    }
}

impl Listed for ParentStatus {
    fn parts(&self) -> (&Reference, &[Condition]) {
        (&self.parent_ref, &self.conditions)
    }
}

fn list<T: Listed>(
    subject: &Subject,
    field: &str,
    maximum: usize,
    entries: &[Entry],
    news: &mut News,
    now: &str,
    make: impl Fn(Reference, Vec<Condition>) -> T,
) -> Option<Value> {
    let listed = subject.status[field].as_array();
    let listed = listed.map_or(&[][..], Vec::as_slice);
    let (own, others): (Vec<&Value>, Vec<&Value>) = listed
        .iter()
        .partition(|entry| entry["controllerName"] == CONTROLLER_NAME);
    let read: Vec<T> = own
        .iter()
        .filter_map(|entry| serde_json::from_value((*entry).clone()).ok())
        .collect();
    let wanted: Vec<T> = entries
        .iter()
        .filter_map(|entry| {
            let reference = entry.reference.clone()?;
            let same = read.iter().map(T::parts).find(|(of, _)| **of == reference);
            let held = same.map_or(&[][..], |(_, conditions)| conditions);
            let conditions = news.conditions(subject, held, &entry.statements, now);
            Some(make(reference, conditions))
        })
        .take(maximum.saturating_sub(others.len()))
        .collect();
    news.pressing |= wanted.len() != own.len();
    if wanted == read && read.len() == own.len() {
        return None;
    }
    let mut whole: Vec<Value> = others.into_iter().cloned().collect();
    whole.extend(
        wanted
            .iter()
            .filter_map(|entry| serde_json::to_value(entry).ok()),
    );
    Some(json!({ field: whole }))
}

fn held<T: DeserializeOwned>(listed: &Value) -> Vec<T> {
    let listed = listed.as_array().into_iter().flatten();
    listed
        .filter_map(|item| serde_json::from_value(item.clone()).ok())
        .collect()
}

#[derive(Default)]
struct News {
    pressing: bool,
    bad: Vec<Statement>,
}

impl News {
    fn conditions(
        &mut self,
        subject: &Subject,
        held: &[Condition],
        statements: &[Statement],
        now: &str,
    ) -> Vec<Condition> {
        let condition = |statement: &Statement| {
            let held = held.iter().find(|held| held.ty == statement.ty);
            let as_before = held.filter(|held| held.status == statement.truth);
            let condition = Condition {
                ty: statement.ty.to_owned(),
                status: statement.truth,
                observed_generation: subject.generation,
                last_transition_time: as_before
                    .map_or(now, |held| &held.last_transition_time)
                    .to_owned(),
                reason: statement.reason.to_owned(),
                message: statement.message.clone(),
            };
            let same = |held: &Condition| {
                let numbers_only = statement.ty == "Programmed"
                    && held.message.contains("proxies")
                    && held.status == condition.status;
                held.reason == condition.reason
                    && held.observed_generation == condition.observed_generation
                    && (held.message == condition.message || numbers_only)
                    && held.status == condition.status
            };
            self.pressing |= !held.is_some_and(same);
            let known = held.is_some_and(|held| {
                held.status == statement.truth && held.reason == statement.reason
            });
            // That proxies have not answered yet is nothing to be told of, and of what is in force nowhere another
            // condition tells.
            let tells = !matches!(statement.reason, "Pending")
                && (statement.ty != "Programmed" || statement.reason == "Refused");
            if statement.truth == Truth::False && tells && !known {
                self.bad.push(statement.clone());
            }
            condition
        };
        statements.iter().map(condition).collect()
    }
}

#[cfg(test)]
mod tests;

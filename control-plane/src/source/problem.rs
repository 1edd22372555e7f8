//! What is wrong with the configuration, for whoever wrote it.

use crate::world::ObjectRef;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric},
    metrics::{MetricType, family::Family, gauge::Gauge},
};
use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::watch;

/// How bad a problem is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, EncodeLabelValue,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is not in force as it was written.
    Error,
    /// Something was left out that the mesh has no use for.
    Warning,
}

/// One thing that is wrong with the configuration: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    #[serde(flatten)]
    pub origin: Origin,
    /// The object, `Service demo/user`, as far as it is known.
    pub object: Option<String>,
    /// The field, `spec.ports[0].port`, if it is one.
    pub field: Option<String>,
    /// What is wrong, what that means for the mesh, and what to do.
    pub reason: String,
}

/// Where something stands that may be wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(untagged)]
pub enum Origin {
    /// In a file.
    File {
        /// The file, as it was found below the watched directory.
        file: PathBuf,
        /// The document of the file, from 1. Absent when it is the file as a whole.
        document: Option<usize>,
    },
    /// In an object of the cluster, which the problem names.
    Object(#[serde(skip)] ObjectRef),
}

/// What is replaced as one, and with it the problems in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file of the watched directory.
    File(PathBuf),
    /// An object of the cluster.
    Object(ObjectRef),
}

impl Origin {
    fn file(&self) -> Option<String> {
        match self {
            Self::File { file, .. } => Some(file.display().to_string()),
            Self::Object(_) => None,
        }
    }

    fn document(&self) -> Option<usize> {
        match self {
            Self::File { document, .. } => *document,
            Self::Object(_) => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.origin.file(),
            self.origin.document().map(|n| format!("document {n}")),
            self.object.clone(),
            self.field.clone(),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        write!(f, "{}: {}", parts.join(", "), self.reason)
    }
}

/// The problems of the configuration as it stands. Clones share one list.
#[derive(Debug, Clone)]
pub struct Problems {
    by_place: Arc<Mutex<BTreeMap<Place, Vec<Problem>>>>,
    /// How often the list has changed.
    changes: watch::Sender<u64>,
}

impl Default for Problems {
    fn default() -> Self {
        Self {
            by_place: Arc::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Problems {
    /// No problems.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of them, by place.
    pub fn list(&self) -> Vec<Problem> {
        self.lock().values().flatten().cloned().collect()
    }

    /// Those of one object of the cluster.
    pub fn of(&self, object: &ObjectRef) -> Vec<Problem> {
        let place = Place::Object(object.clone());
        self.lock().get(&place).cloned().unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Follows the list: the value changes whenever the list has.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Replaces the problems of a place, and logs those that are new.
    pub(crate) fn set(&self, place: Place, problems: Vec<Problem>) {
        let mut by_place = self.lock();
        let old = if problems.is_empty() {
            by_place.remove(&place)
        } else {
            by_place.insert(place, problems.clone())
        };
        drop(by_place);
        let old = old.unwrap_or_default();
        if old != problems {
            self.changes.send_modify(|count| *count += 1);
        }
        for problem in problems.iter().filter(|problem| !old.contains(problem)) {
            match problem.severity {
                Severity::Error => tracing::error!(
                    file = problem.origin.file(),
                    document = problem.origin.document(),
                    object = problem.object,
                    field = problem.field,
                    reason = problem.reason,
                    "configuration refused"
                ),
                Severity::Warning => tracing::warn!(
                    file = problem.origin.file(),
                    document = problem.origin.document(),
                    object = problem.object,
                    field = problem.field,
                    reason = problem.reason,
                    "configuration ignored"
                ),
            }
        }
        for problem in old.iter().filter(|problem| !problems.contains(problem)) {
            tracing::info!(
                file = problem.origin.file(),
                document = problem.origin.document(),
                object = problem.object,
                field = problem.field,
                "configuration problem solved"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Vec<Problem>>> {
        // Every write replaces the list of one place whole: a panic leaves nothing half done.
        self.by_place
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Registered with a registry, gives `config_problems` by severity: how many there are now.
impl Collector for Problems {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let problems = self.list();
        let family = Family::<SeverityLabel, Gauge>::default();
        for severity in [Severity::Error, Severity::Warning] {
            let count = problems.iter().filter(|p| p.severity == severity).count();
            family
                .get_or_create(&SeverityLabel { severity })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let metric = encoder.encode_descriptor(
            "config_problems",
            "Problems of the configuration as it stands",
            None,
            MetricType::Gauge,
        )?;
        family.encode(metric)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SeverityLabel {
    severity: Severity,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Kind, ObjectKey};
    use prometheus_client::{encoding::text::encode, registry::Registry};
    use serde_json::json;

    #[test]
    fn problems_are_counted_by_severity_until_they_are_solved() {
        let problems = Problems::new();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(problems.clone()));
        let metrics = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let problem = Problem {
            severity: Severity::Error,
            origin: Origin::File {
                file: "a.yaml".into(),
                document: Some(2),
            },
            object: Some("Service demo/user".to_owned()),
            field: Some("spec.ports[0].port".to_owned()),
            reason: "0 is not a port".to_owned(),
        };
        assert_eq!(
            problem.to_string(),
            "a.yaml, document 2, Service demo/user, spec.ports[0].port: 0 is not a port"
        );
        let place = Place::File("a.yaml".into());
        let followed = problems.follow();
        problems.set(place.clone(), vec![problem.clone()]);
        assert!(followed.has_changed().unwrap());
        assert!(
            metrics().contains("config_problems{severity=\"Error\"} 1\n"),
            "{}",
            metrics()
        );
        problems.set(place, vec![]);
        assert!(
            metrics().contains("config_problems{severity=\"Error\"} 0\n"),
            "{}",
            metrics()
        );
    }

    #[test]
    fn a_problem_is_written_out_with_the_place_that_it_has() {
        let of_object = Problem {
            severity: Severity::Error,
            origin: Origin::Object(ObjectRef {
                kind: Kind::Service,
                key: ObjectKey::new("demo", "user"),
            }),
            object: Some("Service demo/user".to_owned()),
            field: None,
            reason: "0 is not a port".to_owned(),
        };
        let of_file = Problem {
            origin: Origin::File {
                file: "a.yaml".into(),
                document: Some(2),
            },
            ..of_object.clone()
        };
        assert_eq!(of_object.to_string(), "Service demo/user: 0 is not a port");
        let rest = json!({"severity": "error", "object": "Service demo/user", "field": null, "reason": "0 is not a port"});
        assert_eq!(serde_json::to_value(&of_object).unwrap(), rest);
        let mut expected = rest;
        expected["file"] = "a.yaml".into();
        expected["document"] = 2.into();
        assert_eq!(serde_json::to_value(&of_file).unwrap(), expected);
    }
}

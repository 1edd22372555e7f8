//! What is wrong with the configuration, for whoever wrote it.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric},
    metrics::{MetricType, family::Family, gauge::Gauge},
};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

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

/// One thing that is wrong with a file: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it was found below the watched directory.
    pub file: PathBuf,
    /// The document of the file, from 1. Absent when it is the file as a whole.
    pub document: Option<usize>,
    /// The object, `Service demo/user`, as far as it is known.
    pub object: Option<String>,
    /// The field, `spec.ports[0].port`, if it is one.
    pub field: Option<String>,
    /// What is wrong, what that means for the mesh, and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(document) = self.document {
            write!(f, ", document {document}")?;
        }
        if let Some(object) = &self.object {
            write!(f, ", {object}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ", {field}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// The problems of the configuration as it stands. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Problems(Arc<Mutex<BTreeMap<PathBuf, Vec<Problem>>>>);

impl Problems {
    /// No problems.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of them, by file.
    pub fn list(&self) -> Vec<Problem> {
        self.lock().values().flatten().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Replaces the problems of a file, and logs those that are new.
    pub(crate) fn set(&self, file: &Path, problems: Vec<Problem>) {
        let mut by_file = self.lock();
        let old = if problems.is_empty() {
            by_file.remove(file)
        } else {
            by_file.insert(file.to_owned(), problems.clone())
        };
        drop(by_file);
        let old = old.unwrap_or_default();
        for problem in problems.iter().filter(|problem| !old.contains(problem)) {
            match problem.severity {
                Severity::Error => tracing::error!(
                    file = %problem.file.display(),
                    document = problem.document,
                    object = problem.object,
                    field = problem.field,
                    reason = problem.reason,
                    "configuration refused"
                ),
                Severity::Warning => tracing::warn!(
                    file = %problem.file.display(),
                    document = problem.document,
                    object = problem.object,
                    field = problem.field,
                    reason = problem.reason,
                    "configuration ignored"
                ),
            }
        }
        for problem in old.iter().filter(|problem| !problems.contains(problem)) {
            tracing::info!(
                file = %problem.file.display(),
                document = problem.document,
                object = problem.object,
                field = problem.field,
                "configuration problem solved"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Vec<Problem>>> {
        // Every write replaces the list of one file whole: a panic leaves nothing half done.
        self.0
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
    use prometheus_client::{encoding::text::encode, registry::Registry};

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
            file: "a.yaml".into(),
            document: Some(2),
            object: Some("Service demo/user".to_owned()),
            field: Some("spec.ports[0].port".to_owned()),
            reason: "0 is not a port".to_owned(),
        };
        assert_eq!(
            problem.to_string(),
            "a.yaml, document 2, Service demo/user, spec.ports[0].port: 0 is not a port"
        );
        problems.set(&problem.file, vec![problem.clone()]);
        assert!(
            metrics().contains("config_problems{severity=\"Error\"} 1\n"),
            "{}",
            metrics()
        );
        problems.set(&problem.file, vec![]);
        assert!(
            metrics().contains("config_problems{severity=\"Error\"} 0\n"),
            "{}",
            metrics()
        );
    }
}

//! What the files say, and what is in force of it. No IO.

use super::document::{Document, documents};
use crate::{
    source::{
        Origin, Problem, Severity,
        convert::{self, Outcome, StandIn, Verdict},
    },
    world::{Finding, Object, ObjectRef, Update},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The files of a directory, with the last good version of each object in them.
pub(super) struct Catalog {
    trust_domain: Arc<str>,
    files: BTreeMap<PathBuf, File>,
    /// The files that hold an object. The first is the one that counts.
    holders: HashMap<ObjectRef, BTreeSet<PathBuf>>,
}

/// What came of a change of files.
#[derive(Default)]
pub(super) struct Applied {
    /// What the world is to be told, in this order.
    pub(super) updates: Vec<Update>,
    /// The files whose problems may be others than before.
    pub(super) files: BTreeSet<PathBuf>,
}

#[derive(Default)]
struct File {
    objects: BTreeMap<ObjectRef, Held>,
    problems: Vec<Problem>,
}

#[derive(Clone)]
struct Held {
    object: Object,
    /// `Service demo/user`.
    name: String,
    document: usize,
    /// It is not what was written, but stands for it.
    stand_in: bool,
    /// The fingerprint of the document, where that holds this object and nothing else.
    fingerprint: Option<u128>,
}

/// A file as it was read, to be put in force.
pub(super) struct Read(File);

impl Catalog {
    pub(super) fn new(trust_domain: Arc<str>) -> Self {
        Self {
            trust_domain,
            files: BTreeMap::new(),
            holders: HashMap::new(),
        }
    }

    /// Reads a file with this content, given what is known of it. This is what takes time, and needs no
    /// other file.
    pub(super) fn read(&self, path: &Path, content: &[u8]) -> Read {
        let known = self.files.get(path).map(|file| &file.objects);
        let known = known.unwrap_or(const { &BTreeMap::new() });
        let unchanged = known
            .iter()
            .filter_map(|(reference, held)| Some((held.fingerprint?, reference)))
            .collect();
        let reader = Reader {
            path,
            known,
            unchanged,
            trust_domain: &self.trust_domain,
            file: File::default(),
            retain: Retain::default(),
        };
        Read(reader.read(content))
    }

    /// A file exists, and says this.
    pub(super) fn set(&mut self, path: &Path, read: Read, applied: &mut Applied) {
        self.replace(path, Some(read.0), applied);
    }

    /// A file exists, but cannot be read.
    pub(super) fn set_unreadable(&mut self, path: &Path, reason: &str, applied: &mut Applied) {
        let file = self.files.entry(path.to_owned()).or_default();
        file.problems = vec![of_file(
            path,
            format!("cannot be read: {reason}; its objects stay as they were"),
        )];
        applied.files.insert(path.to_owned());
    }

    /// A file is gone.
    pub(super) fn remove(&mut self, path: &Path, applied: &mut Applied) {
        self.replace(path, None, applied);
    }

    /// The problems of a file.
    pub(super) fn problems(&self, path: &Path) -> Vec<Problem> {
        let Some(file) = self.files.get(path) else {
            return Vec::new();
        };
        let mut problems = file.problems.clone();
        for (reference, held) in &file.objects {
            let first = self.holders.get(reference).and_then(BTreeSet::first);
            if let Some(first) = first.filter(|first| *first != path) {
                problems.push(Problem {
                    severity: Severity::Error,
                    origin: Origin::File {
                        file: path.to_owned(),
                        document: Some(held.document),
                    },
                    object: Some(held.name.clone()),
                    field: None,
                    reason: format!(
                        "is in {}, too, which counts as it is first by name; remove one of them",
                        first.display()
                    ),
                });
            }
        }
        problems.sort();
        problems
    }

    /// What is wrong with an object in the light of others, as a problem of the file that it counts in.
    pub(super) fn located(&self, finding: Finding) -> Option<(&PathBuf, Problem)> {
        let file = self.holders.get(&finding.object)?.first()?;
        let held = self.files.get(file)?.objects.get(&finding.object)?;
        let problem = Problem {
            severity: Severity::Error,
            origin: Origin::File {
                file: file.clone(),
                document: Some(held.document),
            },
            object: Some(held.name.clone()),
            field: Some(finding.field),
            reason: finding.reason,
        };
        Some((file, problem))
    }

    fn replace(&mut self, path: &Path, new: Option<File>, applied: &mut Applied) {
        let keys = |file: Option<&File>| -> BTreeSet<ObjectRef> {
            file.map(|file| file.objects.keys().cloned().collect())
                .unwrap_or_default()
        };
        let old = self.files.remove(path);
        let (before, after) = (keys(old.as_ref()), keys(new.as_ref()));
        let was_in_force: BTreeMap<_, _> = before
            .union(&after)
            .map(|reference| {
                (
                    reference.clone(),
                    self.in_force(reference, path, old.as_ref()),
                )
            })
            .collect();
        for reference in before.difference(&after) {
            if let Some(holders) = self.holders.get_mut(reference) {
                holders.remove(path);
                if holders.is_empty() {
                    self.holders.remove(reference);
                }
            }
        }
        for reference in after.difference(&before) {
            let holders = self.holders.entry(reference.clone()).or_default();
            holders.insert(path.to_owned());
        }
        applied.files.insert(path.to_owned());
        if let Some(file) = new {
            self.files.insert(path.to_owned(), file);
        }
        for (reference, was) in was_in_force {
            let is = self.in_force(&reference, path, self.files.get(path));
            let holders = self.holders.get(&reference);
            applied.files.extend(holders.into_iter().flatten().cloned());
            if was != is {
                applied.updates.push(match is {
                    Some(object) => Update::Set(object),
                    None => Update::Remove(reference),
                });
            }
        }
    }

    /// The version of an object that counts, where one file is as given.
    fn in_force(&self, reference: &ObjectRef, path: &Path, file: Option<&File>) -> Option<Object> {
        let first = self.holders.get(reference)?.first()?;
        let file = if first == path {
            file
        } else {
            self.files.get(first)
        };
        Some(file?.objects.get(reference)?.object.clone())
    }
}

/// Reads one file, given what is known of it.
struct Reader<'a> {
    path: &'a Path,
    known: &'a BTreeMap<ObjectRef, Held>,
    /// The known objects that need not be read again where their documents are the same.
    unchanged: HashMap<u128, &'a ObjectRef>,
    trust_domain: &'a str,
    file: File,
    retain: Retain,
}

/// Which objects of the last good version to keep, though they were not read again.
#[derive(Default)]
struct Retain {
    /// Something could not be read far enough to tell what it is: it may be any of them.
    all: bool,
    /// Except these, which were read and are not to be.
    gone: BTreeSet<ObjectRef>,
}

impl Reader<'_> {
    fn read(mut self, content: &[u8]) -> File {
        let text = match std::str::from_utf8(content) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let reason = format!(
                    "is not UTF-8 at byte {}; its objects stay as they were",
                    error.valid_up_to()
                );
                return self.keep_all(reason);
            }
        };
        // Whoever writes in place truncates first.
        if text.trim().is_empty() {
            return self.keep_all(
                "is empty; objects that it held stay as they were: delete the file to remove them"
                    .to_owned(),
            );
        }
        for document in documents(self.path, text) {
            let fingerprint = document.fingerprint();
            if self.take_over(&document, fingerprint) {
                continue;
            }
            match document.read() {
                Ok(value) => self.object_or_list(document.number, fingerprint, value),
                Err(error) => {
                    self.retain.all = true;
                    self.problem(
                        Severity::Error,
                        document.number,
                        None,
                        None,
                        format!("{error}; objects that the file held before stay as they were"),
                    );
                }
            }
        }
        if self.retain.all {
            for (reference, held) in self.known {
                if !self.retain.gone.contains(reference) {
                    let objects = &mut self.file.objects;
                    objects.entry(reference.clone()).or_insert(held.clone());
                }
            }
        }
        self.file
    }

    fn keep_all(mut self, reason: String) -> File {
        self.file.objects = self.known.clone();
        self.file.problems.push(of_file(self.path, reason));
        self.file
    }

    /// Takes over what came of a document when it was read before: of the documents of a file, a change
    /// mostly concerns one or two. Says whether it was.
    fn take_over(&mut self, document: &Document<'_>, fingerprint: u128) -> bool {
        let Some(reference) = self.unchanged.get(&fingerprint).copied() else {
            return false;
        };
        let held = Held {
            document: document.number,
            ..self.known[reference].clone()
        };
        self.accept(reference.clone(), held);
        true
    }

    fn object_or_list(&mut self, document: usize, fingerprint: u128, mut value: Value) {
        let is_list = value.get("kind").and_then(Value::as_str) == Some("List");
        match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if is_list => {
                for item in items {
                    self.object(document, None, item);
                }
            }
            _ => self.object(document, Some(fingerprint), value),
        }
    }

    fn object(&mut self, document: usize, fingerprint: Option<u128>, value: Value) {
        let Outcome {
            name,
            reference,
            verdict,
        } = convert::object(value, self.trust_domain);
        match (verdict, reference) {
            (Verdict::Accepted(object), Some(reference)) => {
                let held = Held {
                    object,
                    name,
                    document,
                    stand_in: false,
                    fingerprint,
                };
                self.accept(reference, held);
            }
            (Verdict::Unused, Some(reference)) => {
                self.retain.gone.insert(reference);
            }
            (Verdict::Accepted(_) | Verdict::Unused, None) => {}
            (Verdict::UnknownKind(kind), _) => {
                let reason = format!("{kind} is not a kind that Weft reads; it is ignored");
                self.problem(Severity::Warning, document, Some(name), None, reason);
            }
            (Verdict::Refused { invalid, instead }, reference) => {
                let consequence = self.fall_back(document, &name, reference, instead);
                self.problem(
                    Severity::Error,
                    document,
                    Some(name),
                    Some(invalid.field).filter(|field| !field.is_empty()),
                    format!("{}; {consequence}", invalid.reason),
                );
            }
        }
    }

    fn accept(&mut self, reference: ObjectRef, held: Held) {
        if self.file.objects.contains_key(&reference) {
            let reason = "stands in this file before; remove one of them".to_owned();
            self.problem(
                Severity::Error,
                held.document,
                Some(held.name),
                None,
                reason,
            );
            return;
        }
        self.file.objects.insert(reference, held);
    }

    /// Finds what stands for a refused object, and says so.
    fn fall_back(
        &mut self,
        document: usize,
        name: &str,
        reference: Option<ObjectRef>,
        instead: Option<StandIn>,
    ) -> &'static str {
        let Some(reference) = reference else {
            self.retain.all = true;
            return "objects that the file held before stay as they were";
        };
        if self.file.objects.contains_key(&reference) {
            return "another version of it in this file is in force";
        }
        if let Some(held) = self.known.get(&reference).filter(|held| !held.stand_in) {
            let mut held = held.clone();
            if let Some(instead) = instead {
                held.object = instead.after(&held.object);
            }
            self.file.objects.insert(reference, held);
            return "its last good version stays in force";
        }
        match instead {
            Some(StandIn {
                object,
                consequence,
            }) => {
                let held = Held {
                    object,
                    name: name.to_owned(),
                    document,
                    stand_in: true,
                    fingerprint: None,
                };
                self.file.objects.insert(reference, held);
                consequence
            }
            None => "it is not in force until it is mended",
        }
    }

    fn problem(
        &mut self,
        severity: Severity,
        document: usize,
        object: Option<String>,
        field: Option<String>,
        reason: String,
    ) {
        self.file.problems.push(Problem {
            severity,
            origin: Origin::File {
                file: self.path.to_owned(),
                document: Some(document),
            },
            object,
            field,
            reason,
        });
    }
}

fn of_file(path: &Path, reason: String) -> Problem {
    Problem {
        severity: Severity::Error,
        origin: Origin::File {
            file: path.to_owned(),
            document: None,
        },
        object: None,
        field: None,
        reason,
    }
}

#[cfg(test)]
mod tests;

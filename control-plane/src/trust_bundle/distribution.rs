//! Which namespace lacks the roots, and when it is written to: decided without IO.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

/// A namespace that was written to rests, twice as long every time: where somebody undoes what is written, or
/// it cannot be written, the two of us must not keep the API busy.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(300);

/// What is known of every namespace.
#[derive(Debug)]
pub(super) struct Distribution {
    bundle: Arc<str>,
    labelled: Listed<BTreeSet<String>>,
    populated: BTreeSet<String>,
    /// What each ConfigMap says.
    held: Listed<BTreeMap<String, Arc<str>>>,
    rests: BTreeMap<String, Rest>,
}

/// What a watch told, which begins with a list, at times anew.
#[derive(Debug, Default)]
struct Listed<T> {
    known: T,
    /// What a list in progress has told.
    listing: Option<T>,
    is_complete: bool,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    length: Duration,
}

impl Distribution {
    /// Nothing is known yet.
    pub(super) fn new(bundle: Arc<str>) -> Self {
        Self {
            bundle,
            labelled: Listed::default(),
            populated: BTreeSet::new(),
            held: Listed::default(),
            rests: BTreeMap::new(),
        }
    }

    pub(super) fn bundle(&self) -> &Arc<str> {
        &self.bundle
    }

    /// The roots changed: nobody rests.
    pub(super) fn set_bundle(&mut self, bundle: Arc<str>) {
        if self.bundle != bundle {
            self.bundle = bundle;
            self.rests.clear();
        }
    }

    /// The namespace has a pod with a sidecar.
    pub(super) fn populated(&mut self, namespace: &str) {
        if !self.populated.contains(namespace) {
            self.populated.insert(namespace.to_owned());
        }
    }

    pub(super) fn labelled(&mut self, namespace: &str) {
        self.labelled.target().insert(namespace.to_owned());
    }

    pub(super) fn unlabelled(&mut self, namespace: &str) {
        self.labelled.target().remove(namespace);
    }

    pub(super) fn relist_namespaces(&mut self) {
        self.labelled.begin();
    }

    pub(super) fn namespaces_listed(&mut self) {
        self.labelled.complete();
    }

    /// The ConfigMap of a namespace says this.
    pub(super) fn holds(&mut self, namespace: &str, text: &str) {
        // One copy for all that are as they should be.
        let text = if *text == *self.bundle {
            self.bundle.clone()
        } else {
            text.into()
        };
        self.held.target().insert(namespace.to_owned(), text);
    }

    /// The ConfigMap of a namespace was deleted.
    pub(super) fn lost(&mut self, namespace: &str) {
        self.held.target().remove(namespace);
    }

    pub(super) fn relist_copies(&mut self) {
        self.held.begin();
    }

    pub(super) fn copies_listed(&mut self) {
        self.held.complete();
    }

    /// The namespace is gone, or going.
    pub(super) fn gone(&mut self, namespace: &str) {
        self.labelled.target().remove(namespace);
        self.populated.remove(namespace);
        self.held.target().remove(namespace);
        self.rests.remove(namespace);
    }

    /// The namespace was written to, with success or without.
    pub(super) fn attempted(&mut self, namespace: &str, now: Instant) {
        let length = match self.rests.get(namespace) {
            // It was quiet for as long again as it had to be.
            Some(rest) if now < rest.until + rest.length => (2 * rest.length).min(LONGEST_REST),
            _ => FIRST_REST,
        };
        let until = now + length;
        self.rests
            .insert(namespace.to_owned(), Rest { until, length });
    }

    /// The namespaces to write to now. None before everything has been listed: what is not known may be there.
    pub(super) fn due(&self, now: Instant) -> Vec<String> {
        self.lacking()
            .filter(|namespace| self.rested_at(namespace).is_none_or(|at| at <= now))
            .map(str::to_owned)
            .collect()
    }

    /// When [`Self::due`] will have something that it has not now.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lacking()
            .filter_map(|namespace| self.rested_at(namespace))
            .min()
    }

    /// How many namespaces have the roots as they are.
    pub(super) fn current(&self) -> usize {
        let held = self.held.known.values();
        held.filter(|text| **text == self.bundle).count()
    }

    fn lacking(&self) -> impl Iterator<Item = &str> {
        let is_complete = self.labelled.is_complete && self.held.is_complete;
        let wanted: BTreeSet<&String> = self
            .labelled
            .known
            .iter()
            .chain(&self.populated)
            .chain(self.held.known.keys())
            .filter(|_| is_complete)
            .collect();
        wanted
            .into_iter()
            .filter(|namespace| self.held.known.get(*namespace) != Some(&self.bundle))
            .map(String::as_str)
    }

    fn rested_at(&self, namespace: &str) -> Option<Instant> {
        self.rests.get(namespace).map(|rest| rest.until)
    }
}

impl<T: Default> Listed<T> {
    fn begin(&mut self) {
        self.listing = Some(T::default());
    }

    fn complete(&mut self) {
        if let Some(listed) = self.listing.take() {
            self.known = listed;
        }
        self.is_complete = true;
    }

    fn target(&mut self) -> &mut T {
        self.listing.as_mut().unwrap_or(&mut self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything is listed: one namespace with the label, and copies.
    fn distribution(labelled: &[&str], copies: &[(&str, &str)]) -> Distribution {
        let mut distribution = Distribution::new("roots".into());
        distribution.relist_namespaces();
        for namespace in labelled {
            distribution.labelled(namespace);
        }
        distribution.namespaces_listed();
        distribution.relist_copies();
        for (namespace, text) in copies {
            distribution.holds(namespace, text);
        }
        distribution.copies_listed();
        distribution
    }

    #[test]
    fn namespaces_of_the_mesh_that_lack_the_roots_are_due() {
        let now = Instant::now();
        let mut distribution = distribution(
            &["right", "wrong", "without"],
            &[("right", "roots"), ("wrong", "other"), ("former", "other")],
        );
        assert_eq!(distribution.due(now), ["former", "without", "wrong"]);
        distribution.populated("by-pod");
        assert_eq!(
            distribution.due(now),
            ["by-pod", "former", "without", "wrong"]
        );
        assert_eq!(distribution.current(), 1);
        assert_eq!(distribution.next_due(), None);
    }

    #[test]
    fn nothing_is_due_before_everything_is_listed() {
        let mut distribution = Distribution::new("roots".into());
        distribution.populated("demo");
        distribution.relist_namespaces();
        distribution.namespaces_listed();
        distribution.relist_copies();
        assert!(distribution.due(Instant::now()).is_empty());
        distribution.copies_listed();
        assert_eq!(distribution.due(Instant::now()), ["demo"]);
    }

    #[test]
    fn other_roots_are_due_everywhere_at_once() {
        let now = Instant::now();
        let mut distribution = distribution(&["a", "b"], &[("a", "roots")]);
        distribution.attempted("b", now);
        distribution.holds("b", "roots");
        assert!(distribution.due(now).is_empty());
        distribution.set_bundle("new roots".into());
        assert_eq!(distribution.due(now), ["a", "b"]);
        assert_eq!(distribution.current(), 0);
    }

    #[test]
    fn a_copy_that_somebody_undoes_again_and_again_is_written_less_and_less_often() {
        let mut now = Instant::now();
        let mut distribution = distribution(&["a"], &[]);
        let mut rests = Vec::new();
        for _ in 0..12 {
            assert_eq!(distribution.due(now), ["a"]);
            distribution.attempted("a", now);
            distribution.holds("a", "roots");
            assert_eq!(distribution.next_due(), None);
            distribution.lost("a");
            assert!(distribution.due(now).is_empty());
            let next = distribution.next_due().unwrap();
            rests.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        // After a quiet time it is written at once, and soon again.
        now += Duration::from_secs(600);
        distribution.attempted("a", now);
        assert_eq!(distribution.next_due(), Some(now + FIRST_REST));
    }

    #[test]
    fn a_namespace_that_is_gone_is_forgotten_until_it_is_heard_of_again() {
        let now = Instant::now();
        let mut distribution = distribution(&["a"], &[]);
        distribution.populated("a");
        distribution.attempted("a", now);
        distribution.gone("a");
        assert!(distribution.due(now).is_empty());
        assert_eq!(distribution.next_due(), None);
        distribution.labelled("a");
        assert_eq!(distribution.due(now), ["a"]);
    }

    #[test]
    fn a_list_told_anew_replaces_what_was_known() {
        let mut distribution = distribution(&["a", "b"], &[]);
        distribution.relist_namespaces();
        distribution.labelled("b");
        assert_eq!(distribution.due(Instant::now()), ["a", "b"]);
        distribution.namespaces_listed();
        assert_eq!(distribution.due(Instant::now()), ["b"]);
    }
}

//! What to ask of the API next, and when: the course of one watch. No IO.

use std::time::{Duration, Instant};

/// How far a watch is, and how it goes on.
#[derive(Debug)]
pub(super) struct Course {
    /// Everything up to this version was told. `None` when a list is due.
    version: Option<String>,
    listing: Listing,
    /// In a row.
    failures: u32,
    /// Nothing was heard of a watch since the version was lost last.
    lost: bool,
    /// Since when the API says that there is no such kind.
    missing_since: Option<Instant>,
    /// Whether a list was complete, ever.
    listed: bool,
}

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// All there is.
    List(Listing),
    /// What happens after a version.
    Watch(String),
}

/// How a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    /// As the first part of a watch: object by object, and the server need not hold them all.
    Streamed,
    /// Page by page.
    Paged,
    /// In one answer: the pages were too slow for how long the server keeps their version.
    Whole,
}

/// Why asking came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setback {
    /// A watch ended as watches do, after so long.
    Closed(Duration),
    /// The version is too old for the server to say what happened since, or what came makes no sense.
    Lost,
    /// The version of a list went by while its pages were read.
    PagesExpired,
    /// The server does not stream lists.
    NotStreamed,
    /// The server, or the way to it, failed.
    Failed,
}

/// What to make of a kind that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    /// It was there when last asked for, or this is the first time.
    pub(super) first: bool,
    /// Then there is nothing of it, either.
    pub(super) nothing: bool,
    /// How long to wait.
    pub(super) retry_in: Duration,
}

/// The shortest watch whose end says nothing of the server's health.
const LIVED: Duration = Duration::from_secs(5);
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Few replicas ask, and what they miss meanwhile misleads requests.
const LAST_DELAY: Duration = Duration::from_secs(5);
/// How often a kind that is not there is asked for.
const MISSING_DELAY: Duration = Duration::from_secs(10);
/// A server that is just starting may not know all kinds yet: what was there is given up only when it stays away.
const MISSING_FOR_GOOD: Duration = Duration::from_secs(30);

impl Course {
    pub(super) fn new() -> Self {
        Self {
            version: None,
            listing: Listing::Streamed,
            failures: 0,
            lost: false,
            missing_since: None,
            listed: false,
        }
    }

    /// What to ask now.
    pub(super) fn ask(&self) -> Ask {
        match &self.version {
            Some(version) => Ask::Watch(version.clone()),
            None => Ask::List(self.listing),
        }
    }

    /// A list was complete as of a version.
    pub(super) fn listed(&mut self, version: String) {
        self.version = Some(version);
        self.listed = true;
        self.missing_since = None;
        if self.listing == Listing::Whole {
            self.listing = Listing::Paged;
        }
    }

    /// A watch told everything up to a version.
    pub(super) fn heard(&mut self, version: String) {
        self.version = Some(version);
        self.failures = 0;
        self.lost = false;
    }

    /// Asking came to nothing. Gives how long to wait, `luck` being from 0 to 1.
    pub(super) fn set_back(&mut self, setback: Setback, luck: f64) -> Duration {
        match setback {
            Setback::Closed(lived) if lived >= LIVED => {
                self.failures = 0;
                return Duration::ZERO;
            }
            Setback::NotStreamed => {
                self.listing = Listing::Paged;
                return Duration::ZERO;
            }
            Setback::PagesExpired => self.listing = Listing::Whole,
            Setback::Lost => {
                self.version = None;
                // The server is back, and says so: what failed before it was is no reason to wait.
                if !std::mem::replace(&mut self.lost, true) {
                    self.failures = 0;
                }
            }
            Setback::Closed(_) | Setback::Failed => {}
        }
        let doubled = FIRST_DELAY.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        // Half of it by chance: replicas that lost the same server do not come back as one.
        doubled.min(LAST_DELAY).mul_f64((1.0 + luck) / 2.0)
    }

    /// The API says that there is no such kind.
    pub(super) fn missing(&mut self, now: Instant, luck: f64) -> Missing {
        self.version = None;
        let first = self.missing_since.is_none();
        let since = *self.missing_since.get_or_insert(now);
        Missing {
            first,
            nothing: !self.listed || now.duration_since(since) >= MISSING_FOR_GOOD,
            retry_in: MISSING_DELAY.mul_f64((1.0 + luck) / 2.0),
        }
    }

    /// How often in a row asking came to nothing.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_watch_goes_on_from_what_it_heard_last_and_lists_again_only_when_that_is_lost() {
        let mut course = Course::new();
        assert_eq!(course.ask(), Ask::List(Listing::Streamed));
        course.listed("5".to_owned());
        assert_eq!(course.ask(), Ask::Watch("5".to_owned()));
        course.heard("7".to_owned());
        course.set_back(Setback::Closed(LIVED), 1.0);
        course.set_back(Setback::Failed, 1.0);
        assert_eq!(course.ask(), Ask::Watch("7".to_owned()));
        course.set_back(Setback::Lost, 1.0);
        assert_eq!(course.ask(), Ask::List(Listing::Streamed));
    }

    #[test]
    fn a_server_that_does_not_stream_lists_is_asked_for_pages_and_one_whose_pages_expire_for_all() {
        let mut course = Course::new();
        assert_eq!(course.set_back(Setback::NotStreamed, 1.0), ms(0));
        assert_eq!(course.ask(), Ask::List(Listing::Paged));
        course.set_back(Setback::PagesExpired, 1.0);
        assert_eq!(course.ask(), Ask::List(Listing::Whole));
        course.listed("5".to_owned());
        course.set_back(Setback::Lost, 1.0);
        assert_eq!(course.ask(), Ask::List(Listing::Paged));
    }

    #[test]
    fn delays_double_up_to_a_limit_and_begin_anew_once_something_was_heard() {
        let mut course = Course::new();
        let mut fail = |luck| course.set_back(Setback::Failed, luck);
        let delays: Vec<_> = (0..8).map(|_| fail(1.0)).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(ms));
        assert_eq!(fail(0.0), ms(2500));
        course.heard("1".to_owned());
        assert_eq!(course.set_back(Setback::Failed, 1.0), ms(100));
    }

    #[test]
    fn a_server_that_is_back_is_asked_for_a_list_soon_and_one_that_loses_every_version_is_not() {
        let mut course = Course::new();
        for _ in 0..6 {
            course.set_back(Setback::Failed, 1.0);
        }
        for delay in [100, 200, 400] {
            assert_eq!(course.set_back(Setback::Lost, 1.0), ms(delay));
            course.listed("1".to_owned());
        }
        course.heard("2".to_owned());
        assert_eq!(course.set_back(Setback::Lost, 1.0), ms(100));
    }

    #[test]
    fn a_watch_that_ends_at_once_is_a_failure_and_a_list_alone_is_no_recovery() {
        let mut course = Course::new();
        for delay in [100, 200, 400] {
            course.listed("1".to_owned());
            assert_eq!(course.set_back(Setback::Closed(ms(1)), 1.0), ms(delay));
        }
        assert_eq!(course.set_back(Setback::Closed(LIVED), 1.0), ms(0));
        assert_eq!(course.set_back(Setback::Lost, 1.0), ms(100));
    }

    #[test]
    fn a_kind_that_never_was_there_is_empty_and_one_that_was_only_when_it_stays_away() {
        let start = Instant::now();
        let mut course = Course::new();
        let missing = |first, nothing, retry_in| Missing {
            first,
            nothing,
            retry_in,
        };
        assert_eq!(
            course.missing(start, 1.0),
            missing(true, true, MISSING_DELAY)
        );
        course.listed("1".to_owned());
        assert_eq!(
            course.missing(start, 1.0),
            missing(true, false, MISSING_DELAY)
        );
        assert_eq!(course.ask(), Ask::List(Listing::Streamed));
        let later = start + MISSING_FOR_GOOD;
        assert_eq!(
            course.missing(later, 0.0),
            missing(false, true, MISSING_DELAY / 2)
        );
    }
}

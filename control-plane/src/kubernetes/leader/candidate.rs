//! What a replica does about the Lease that it sees: a function of the Lease, of who it is, and of the time.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{DURATION, RENEW_EVERY};

/// A replica that would write.
#[derive(Debug)]
pub(super) struct Candidate {
    name: Arc<str>,
    /// The Lease of another as it was last seen to move.
    seen: Option<Seen>,
    attempts: u64,
}

/// What is to be done about a Lease.
#[derive(Debug, PartialEq)]
pub(super) enum Claim {
    /// Write this: it is ours, or nobody's.
    Take(LeaseSpec),
    /// It is another's.
    Leave,
}

#[derive(Debug)]
struct Seen {
    holder: Option<String>,
    renewed: Option<MicroTime>,
    /// When it moved, by our clock: the clocks of others are not to be trusted with ours.
    at: Instant,
    /// When it ends if it does not move.
    ends: Instant,
}

impl Candidate {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            seen: None,
            attempts: 0,
        }
    }

    /// What to do about the Lease as it is now. `today` is what others read, `now` what counts.
    pub(super) fn decide(
        &mut self,
        lease: Option<&LeaseSpec>,
        now: Instant,
        today: MicroTime,
    ) -> Claim {
        let holder = lease.and_then(holder);
        let own = holder == Some(&*self.name);
        if let (Some(lease), Some(_), false) = (lease, holder, own)
            && now < self.watch(lease, now).ends
        {
            return Claim::Leave;
        }
        self.seen = None;
        let transitions = lease.and_then(|lease| lease.lease_transitions);
        let acquired = lease.and_then(|lease| lease.acquire_time.clone());
        Claim::Take(LeaseSpec {
            holder_identity: Some(self.name.to_string()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: acquired.filter(|_| own).or_else(|| Some(today.clone())),
            renew_time: Some(today),
            lease_transitions: match transitions {
                Some(transitions) if own => Some(transitions),
                Some(transitions) => Some(transitions.saturating_add(1)),
                None => Some(0),
            },
            ..LeaseSpec::default()
        })
    }

    /// The Lease as it is given back; `None` if it is not ours.
    pub(super) fn released(
        &self,
        lease: Option<&LeaseSpec>,
        today: MicroTime,
    ) -> Option<LeaseSpec> {
        let lease = lease.filter(|lease| holder(lease) == Some(&*self.name))?;
        Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(today),
            ..lease.clone()
        })
    }

    /// When to look again. Replicas that start together drift apart.
    pub(super) fn next_attempt(&mut self, began: Instant) -> Instant {
        self.attempts = self.attempts.wrapping_add(1);
        let share = xxh3_64_with_seed(self.name.as_bytes(), self.attempts) % 256;
        let jitter = RENEW_EVERY / 5 * u32::try_from(share).unwrap_or_default() / 256;
        let next = began + RENEW_EVERY + jitter;
        match &self.seen {
            // As soon as it may be taken.
            Some(seen) if seen.ends < next => began.max(seen.ends) + jitter,
            _ => next,
        }
    }

    /// Remembers the Lease of another, and since when it stands still.
    fn watch(&mut self, lease: &LeaseSpec, now: Instant) -> &Seen {
        let holder = lease.holder_identity.clone();
        let renewed = lease.renew_time.clone();
        let at = match &self.seen {
            Some(seen) if seen.holder == holder && seen.renewed == renewed => seen.at,
            _ => now,
        };
        let stands = lease.lease_duration_seconds;
        let stands = stands
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(DURATION, Duration::from_secs);
        self.seen.insert(Seen {
            holder,
            renewed,
            at,
            ends: at + stands,
        })
    }
}

fn holder(lease: &LeaseSpec) -> Option<&str> {
    lease
        .holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn today(second: i64) -> MicroTime {
        MicroTime(Timestamp::from_second(second).unwrap())
    }

    fn lease_of(holder: &str, renewed: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(5),
            acquire_time: Some(today(1)),
            renew_time: Some(today(renewed)),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_lease_that_is_not_there_is_made() {
        let mut candidate = Candidate::new("a".into());
        let made = LeaseSpec {
            acquire_time: Some(today(7)),
            lease_transitions: Some(0),
            ..lease_of("a", 7)
        };
        assert_eq!(
            candidate.decide(None, Instant::now(), today(7)),
            Claim::Take(made)
        );
    }

    #[test]
    fn the_own_lease_is_renewed_however_old_it_is() {
        let mut candidate = Candidate::new("a".into());
        assert_eq!(
            candidate.decide(Some(&lease_of("a", 2)), Instant::now(), today(900)),
            Claim::Take(lease_of("a", 900))
        );
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let mut candidate = Candidate::new("a".into());
        let released = Candidate::new("b".into())
            .released(Some(&lease_of("b", 2)), today(3))
            .unwrap();
        let taken = LeaseSpec {
            acquire_time: Some(today(4)),
            lease_transitions: Some(4),
            ..lease_of("a", 4)
        };
        assert_eq!(
            candidate.decide(Some(&released), Instant::now(), today(4)),
            Claim::Take(taken)
        );
    }

    #[test]
    fn the_lease_of_another_is_taken_once_it_has_stood_still_for_its_duration_by_our_clock() {
        let mut candidate = Candidate::new("a".into());
        let start = Instant::now();
        // However far apart the clocks are.
        let stale = lease_of("b", -1_000_000);
        let mut decide = |lease: &LeaseSpec, after| {
            let claim = candidate.decide(Some(lease), start + seconds(after), today(50));
            matches!(claim, Claim::Take(_))
        };
        assert!(!decide(&stale, 0));
        assert!(!decide(&stale, 4));
        // It moves: everything from the beginning.
        let renewed = lease_of("b", -999_999);
        assert!(!decide(&renewed, 5));
        assert!(!decide(&renewed, 9));
        assert!(decide(&renewed, 10));
    }

    #[test]
    fn the_lease_of_another_holder_starts_its_duration_anew() {
        let mut candidate = Candidate::new("a".into());
        let start = Instant::now();
        let b = candidate.decide(Some(&lease_of("b", 1)), start, today(1));
        let c = candidate.decide(Some(&lease_of("c", 1)), start + seconds(6), today(1));
        assert_eq!((b, c), (Claim::Leave, Claim::Leave));
    }

    #[test]
    fn the_lease_of_another_is_not_given_back() {
        let candidate = Candidate::new("a".into());
        assert_eq!(candidate.released(Some(&lease_of("b", 1)), today(1)), None);
        assert_eq!(candidate.released(None, today(1)), None);
    }

    #[test]
    fn attempts_are_spread_and_the_end_of_a_lease_is_not_missed() {
        let mut candidate = Candidate::new("a".into());
        let start = Instant::now();
        let mut waits: Vec<_> = (0..50)
            .map(|_| candidate.next_attempt(start) - start)
            .collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 10);
        assert!(
            waits
                .iter()
                .all(|wait| (RENEW_EVERY..=RENEW_EVERY * 6 / 5).contains(wait))
        );

        candidate.decide(Some(&lease_of("b", 1)), start, today(1));
        let late = start + Duration::from_millis(4_500);
        let next = candidate.next_attempt(late);
        assert!((start + seconds(5)..late + RENEW_EVERY).contains(&next));
    }
}

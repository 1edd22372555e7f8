//! One bucket for all callers, shared fairly when there is not enough in it.
//!
//! While it is more than half full, or has one caller only, whoever comes takes from it. The lower half is kept
//! for those who have not had their share: each of `n` callers has a bucket of its own, of an `n`th of the rate and
//! an `n`th of the lower half, and takes from the lower half what that has. What all of them may take is no more
//! than the lower half and the rate, so a caller that keeps to its share finds a token whatever others send; and
//! what they leave is had by who wants more, so that nothing is left unused.
//!
//! Callers are known from their first request that finds no token beyond the lower half. That one, and those
//! that come before the bucket has recovered from its last caller, may be refused.

use super::{
    bucket::{Bucket, Moment, Wait},
    table::{Key, Table},
};
use crate::snapshot::Rate;
use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// How long a caller is counted after it has last asked for what is scarce, at least. Too long costs nothing: what
/// is kept for it goes to others when the lower half is full.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How often callers that are gone are noticed.
const RECOUNT: Duration = Duration::from_secs(1);

/// Callers told apart, at most: a request counts them once in [`RECOUNT`].
const MOST_SHARERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("10,000 is not zero");

/// A bucket for all.
#[derive(Debug)]
pub(crate) struct SharedBucket {
    common: Bucket,
    shares: Table<Share>,
    callers: AtomicU32,
    /// A [`Moment`].
    recounted: AtomicU64,
}

/// What a caller may take of the lower half.
#[derive(Debug, Default)]
struct Share {
    bucket: Bucket,
    /// The [`Moment`] of its last request that found no more than the lower half.
    seen: AtomicU64,
}

impl SharedBucket {
    /// A full bucket, for so many callers that are told apart.
    pub(crate) fn new(maximum_keys: NonZeroUsize) -> Self {
        Self {
            common: Bucket::default(),
            shares: Table::new(maximum_keys.min(MOST_SHARERS)),
            callers: AtomicU32::new(0),
            recounted: AtomicU64::new(0),
        }
    }

    /// The same bucket at another rate. Its callers become known again.
    pub(crate) fn at_rate(
        &self,
        before: Rate,
        rate: Rate,
        maximum_keys: NonZeroUsize,
        now: Moment,
    ) -> Self {
        Self {
            common: self.common.at_rate(before, rate, now),
            ..Self::new(maximum_keys)
        }
    }

    /// Takes a token for a caller.
    pub(crate) fn take(
        &self,
        rate: Rate,
        caller: impl Fn() -> Key,
        now: Moment,
    ) -> Result<(), Wait> {
        let callers = self.callers.load(Ordering::Relaxed);
        self.common
            .take_above(kept(rate, callers), rate, now)
            .or_else(|wait| self.take_share(rate, caller(), now, wait))
    }

    /// What all of them share.
    pub(crate) fn common(&self) -> &Bucket {
        &self.common
    }

    fn take_share(&self, rate: Rate, caller: Key, now: Moment, wait: Wait) -> Result<(), Wait> {
        self.recount(rate, now);
        let remembered = remembered(rate);
        self.shares.with(
            caller,
            |share| share.is_forgotten(remembered, now),
            |share| {
                let known = !share.is_forgotten(remembered, now);
                share.seen.store(now.nanos(), Ordering::Release);
                let others = self.callers.load(Ordering::Relaxed);
                let callers = if known {
                    others.max(1)
                } else {
                    self.callers.fetch_add(1, Ordering::Relaxed) + 1
                };
                let part = rate.share(NonZeroU32::new(callers).unwrap_or(NonZeroU32::MIN));
                if !known || callers == 1 {
                    // What a caller that was alone has left of its share is gone with the bucket.
                    share.bucket.leave_one(part, now);
                }
                if callers == 1 {
                    return Err(wait);
                }
                let common = self.common.wait(rate, now);
                if !common.is_zero() {
                    return Err(Wait(common.max(share.bucket.wait(part, now)).min(wait.0)));
                }
                share
                    .bucket
                    .take(part, now)
                    .map_err(|Wait(own)| Wait(own.min(wait.0)))?;
                self.common.take(rate, now)
            },
        )
    }

    fn recount(&self, rate: Rate, now: Moment) {
        let last = self.recounted.load(Ordering::Relaxed);
        if now.nanos().saturating_sub(last) < RECOUNT.as_nanos() as u64 {
            return;
        }
        let mine = self.recounted.compare_exchange(
            last,
            now.nanos(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if mine.is_ok() {
            let remembered = remembered(rate);
            let values = self.shares.values();
            let callers = values.filter(|share| !share.is_forgotten(remembered, now));
            let callers = u32::try_from(callers.count()).unwrap_or(u32::MAX);
            self.callers.store(callers, Ordering::Relaxed);
        }
    }
}

impl Share {
    fn is_forgotten(&self, remembered: u64, now: Moment) -> bool {
        let seen = self.seen.load(Ordering::Acquire);
        now.nanos().saturating_sub(seen) > remembered
    }
}

/// The tokens that are kept for those who have not had their share. One caller has nobody to keep them for.
fn kept(rate: Rate, callers: u32) -> u32 {
    if callers > 1 {
        rate.burst().get() / 2
    } else {
        0
    }
}

/// Twice the time in which the bucket comes back, at least: a caller that comes as rarely as it may is known.
fn remembered(rate: Rate) -> u64 {
    (REMEMBERED.as_nanos() as u64).max(rate.depth().saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::table::Keys;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(requests: u32, burst: u32) -> Rate {
        let number = |n: u32| n.try_into().unwrap();
        Rate::new(number(requests), SECOND, number(burst)).unwrap()
    }

    fn bucket() -> SharedBucket {
        SharedBucket::new(NonZeroUsize::new(100).unwrap())
    }

    fn after(nanos: u64) -> Moment {
        Moment::after_start(Duration::from_nanos(nanos))
    }

    /// How many requests of each caller were sent and admitted from `since` to `until`, when each sends so many
    /// a second, evenly.
    fn share(rate: Rate, senders: &[u32], since: Duration, until: Duration) -> Vec<(u32, u32)> {
        let (bucket, keys) = (bucket(), Keys::default());
        let mut requests: Vec<(u64, usize)> = (0..senders.len())
            .flat_map(|caller| {
                let gap = 1_000_000_000 / u64::from(senders[caller]);
                (0..until.as_nanos() as u64 / gap).map(move |n| (n * gap, caller))
            })
            .collect();
        requests.sort_unstable();
        let mut counts = vec![(0, 0); senders.len()];
        for (nanos, caller) in requests {
            let taken = bucket.take(rate, || keys.of(caller), after(nanos)).is_ok();
            if nanos >= since.as_nanos() as u64 {
                counts[caller].0 += 1;
                counts[caller].1 += u32::from(taken);
            }
        }
        counts
    }

    #[test]
    fn a_caller_alone_has_the_whole_burst_and_the_whole_rate() {
        let (bucket, keys) = (bucket(), Keys::default());
        let rate = rate(10, 8);
        let taken = |now| {
            let tries = (0..20).filter(|_| bucket.take(rate, || keys.of("a"), now).is_ok());
            tries.count()
        };
        assert_eq!(taken(after(0)), 8);
        assert_eq!(taken(after(500_000_000)), 5);
        assert_eq!(taken(after(9_000_000_000)), 8);
    }

    #[test]
    fn who_sends_ten_times_as_much_leaves_the_other_its_share() {
        let seconds = |s| Duration::from_secs(s);
        let counts = share(rate(100, 100), &[49, 490], seconds(2), seconds(20));
        let [(sent, admitted), (_, greedy)] = counts[..] else {
            panic!("two callers");
        };
        assert_eq!(admitted, sent, "within its share nothing is refused");
        assert!(
            (900..=918 + 50).contains(&greedy),
            "the rest is used: {greedy}"
        );
    }

    #[test]
    fn a_caller_that_comes_rarely_is_not_starved() {
        let seconds = |s| Duration::from_secs(s);
        let counts = share(rate(100, 10), &[1, 2000], seconds(2), seconds(30));
        assert_eq!(counts[0], (28, 28));
    }

    #[test]
    fn those_who_are_gone_leave_their_share() {
        let (bucket, keys) = (bucket(), Keys::default());
        let rate = rate(10, 4);
        for n in 0..100 {
            for caller in ["a", "b"] {
                let _ = bucket.take(rate, || keys.of(caller), after(n * 10_000_000));
            }
        }
        assert_eq!(bucket.callers.load(Ordering::Relaxed), 2);
        let later = after(120_000_000_000);
        let taken = (0..10).filter(|_| bucket.take(rate, || keys.of("a"), later).is_ok());
        assert_eq!(taken.count(), 4, "all of it");
    }

    proptest! {
        #[test]
        fn all_together_never_have_more_than_the_rate(
            requests in 1..200u32,
            burst in 1..50u32,
            senders in prop::collection::vec(1..500u32, 1..5),
        ) {
            let rate = rate(requests, burst);
            let until = Duration::from_secs(5);
            let counts = share(rate, &senders, Duration::ZERO, until);
            let admitted: u32 = counts.iter().map(|(_, admitted)| admitted).sum();
            prop_assert!(admitted <= burst + requests * 5);
        }

        /// With `n` callers, each is admitted all that it sends below an `n`th of the rate, but for the first
        /// moments after it has come, and what one leaves others have.
        #[test]
        fn nobody_is_refused_its_share_and_nothing_is_wasted(
            requests in 50..200u32,
            burst in 20..100u32,
            light in prop::collection::vec(1..=100u32, 1..4),
            greed in 2..10u32,
        ) {
            let callers = light.len() as u32 + 1;
            // In percent of a share, but at least one in a second.
            let mut senders: Vec<u32> =
                light.iter().map(|percent| (requests * percent / 100 / callers).max(1)).collect();
            senders.push(requests * greed);
            let rate = rate(requests, burst);
            let (since, until) = (Duration::from_secs(5), Duration::from_secs(15));
            let counts = share(rate, &senders, since, until);
            for (sent, admitted) in &counts[..light.len()] {
                prop_assert_eq!(sent, admitted, "{:?} {:?}", &senders, &counts);
            }
            let admitted: u32 = counts.iter().map(|(_, admitted)| admitted).sum();
            prop_assert!(
                admitted + burst >= requests * 10 * 99 / 100,
                "{admitted} of {} admitted: {:?}", requests * 10, &senders
            );
        }
    }
}

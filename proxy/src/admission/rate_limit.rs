//! A rate limit in force: its buckets, and which of them a request takes a token from.

use super::{
    Asking,
    bucket::{Bucket, Moment, Wait},
    shared::SharedBucket,
    table::{Keys, Table},
};
use crate::snapshot::{RateLimit, admission::Key};
use std::{
    hash::{Hash, Hasher},
    time::Duration,
};

/// A rate limit and its buckets.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: RateLimit,
    buckets: Buckets,
}

#[derive(Debug)]
enum Buckets {
    /// One for all.
    Shared(SharedBucket),
    /// One for each key.
    Keyed(Table<Bucket>),
}

/// A request that finds no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// As many requests are admitted at once, at most.
    pub(crate) limit: u32,
    /// When there will be so many again.
    pub(crate) full_in: Duration,
    /// When one will be admitted.
    pub(crate) retry_after: Duration,
}

impl Limiter {
    /// A limit whose buckets are full.
    pub(crate) fn new(limit: RateLimit) -> Self {
        let buckets = if limit.by.is_empty() {
            Buckets::Shared(SharedBucket::new(limit.maximum_keys))
        } else {
            Buckets::Keyed(Table::new(limit.maximum_keys))
        };
        Self { limit, buckets }
    }

    /// The same limit as configured now. Buckets keep what is in them, if they are still told apart by the same.
    pub(crate) fn changed(&self, limit: RateLimit, now: Moment) -> Self {
        let (before, rate, keys) = (self.limit.rate, limit.rate, limit.maximum_keys);
        let buckets = match &self.buckets {
            _ if limit.by != self.limit.by => return Self::new(limit),
            Buckets::Shared(bucket) => Buckets::Shared(bucket.at_rate(before, rate, keys, now)),
            Buckets::Keyed(table) => Buckets::Keyed(table.map(keys, |bucket| {
                // A full one is like one that nobody knows.
                let used = !bucket.is_full(before, now);
                used.then(|| bucket.at_rate(before, rate, now))
            })),
        };
        Self { limit, buckets }
    }

    /// What it was made of.
    pub(crate) fn limit(&self) -> &RateLimit {
        &self.limit
    }

    /// Takes a token for a request.
    pub(crate) fn take(
        &self,
        asking: &Asking<'_>,
        keys: &Keys,
        now: Moment,
    ) -> Result<(), Refused> {
        let rate = self.limit.rate;
        match &self.buckets {
            Buckets::Shared(shared) => shared
                .take(rate, || keys.of(asking.caller()), now)
                .map_err(|wait| self.refused(shared.common(), wait, now)),
            Buckets::Keyed(table) => self.with(table, asking, keys, now, |bucket| {
                let taken = bucket.take(rate, now);
                taken.map_err(|wait| self.refused(bucket, wait, now))
            }),
        }
    }

    /// Whether there is a token for a request, without taking it.
    pub(crate) fn check(
        &self,
        asking: &Asking<'_>,
        keys: &Keys,
        now: Moment,
    ) -> Result<(), Refused> {
        let check = |bucket: &Bucket| {
            let wait = bucket.wait(self.limit.rate, now);
            match wait.is_zero() {
                true => Ok(()),
                false => Err(self.refused(bucket, Wait(wait), now)),
            }
        };
        match &self.buckets {
            Buckets::Shared(shared) => check(shared.common()),
            Buckets::Keyed(table) => self.with(table, asking, keys, now, check),
        }
    }

    /// How many buckets are in use.
    pub(crate) fn used_buckets(&self, now: Moment) -> usize {
        let used = |bucket: &Bucket| !bucket.is_full(self.limit.rate, now);
        match &self.buckets {
            Buckets::Shared(shared) => usize::from(used(shared.common())),
            Buckets::Keyed(table) => table.values().filter(|bucket| used(bucket)).count(),
        }
    }

    fn refused(&self, bucket: &Bucket, Wait(retry_after): Wait, now: Moment) -> Refused {
        let rate = self.limit.rate;
        Refused {
            limit: rate.burst().get(),
            full_in: bucket.level(rate, now).full_in(rate),
            retry_after,
        }
    }

    fn with<T>(
        &self,
        table: &Table<Bucket>,
        asking: &Asking<'_>,
        keys: &Keys,
        now: Moment,
        act: impl Fn(&Bucket) -> T,
    ) -> T {
        let rate = self.limit.rate;
        let key = keys.of(Values {
            by: &self.limit.by,
            asking,
        });
        table.with(key, |bucket| bucket.is_full(rate, now), act)
    }
}

/// What a request has of that which tells callers apart.
struct Values<'a> {
    by: &'a [Key],
    asking: &'a Asking<'a>,
}

impl Hash for Values<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for key in self.by {
            match key {
                Key::Identity => self.asking.identity.hash(state),
                Key::SourceAddress => self.asking.address.hash(state),
                Key::Authority => self.asking.host.hash(state),
                // All of them: a caller must not choose a bucket by which of two comes first.
                Key::Header(name) => {
                    for value in self.asking.request.headers().get_all(name) {
                        value.as_bytes().hash(state);
                    }
                    state.write_u8(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::body::Body, snapshot::Rate};
    use http::{HeaderName, HeaderValue, Request};
    use std::net::{IpAddr, Ipv4Addr};
    use weft_xds_proto::spiffe::SpiffeId;

    const TENANT: HeaderName = HeaderName::from_static("x-tenant");

    fn limit(requests: u32, burst: u32, by: Vec<Key>) -> RateLimit {
        let number = |n: u32| n.try_into().unwrap();
        RateLimit {
            rate: Rate::new(number(requests), Duration::from_secs(1), number(burst)).unwrap(),
            by,
            maximum_keys: 100.try_into().unwrap(),
        }
    }

    /// Somebody who asks.
    #[derive(Clone, Copy)]
    struct Somebody {
        account: Option<&'static str>,
        address: u8,
        tenant: Option<&'static str>,
    }

    const SOMEBODY: Somebody = Somebody {
        account: Some("order"),
        address: 1,
        tenant: None,
    };

    impl Somebody {
        /// How many of so many requests are admitted.
        fn admitted(self, limiter: &Limiter, keys: &Keys, requests: usize, millis: u64) -> usize {
            let identity = self
                .account
                .map(|account| SpiffeId::new("cluster.local", "demo", account).unwrap());
            let mut request = Request::new(Body::Empty);
            if let Some(tenant) = self.tenant {
                let tenant = HeaderValue::from_static(tenant);
                request.headers_mut().insert(TENANT, tenant);
            }
            let asking = Asking {
                identity: identity.as_ref(),
                address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, self.address)),
                host: "user",
                request: &request,
            };
            let now = Moment::after_start(Duration::from_millis(millis));
            let taken = (0..requests).filter(|_| limiter.take(&asking, keys, now).is_ok());
            taken.count()
        }
    }

    #[test]
    fn each_of_what_tells_callers_apart_has_a_bucket_of_its_own() {
        let other = Somebody {
            account: Some("cart"),
            address: 2,
            tenant: Some("a"),
        };
        let nobody = Somebody {
            account: None,
            ..SOMEBODY
        };
        for (by, apart) in [
            (vec![Key::Identity], [true, true]),
            (vec![Key::SourceAddress], [true, false]),
            (vec![Key::Header(TENANT)], [true, false]),
            (vec![Key::SourceAddress, Key::Identity], [true, true]),
            (vec![], [false, false]),
        ] {
            for (caller, apart) in [other, nobody].into_iter().zip(apart) {
                let (limiter, keys) = (Limiter::new(limit(1, 2, by.clone())), Keys::default());
                assert_eq!(SOMEBODY.admitted(&limiter, &keys, 3, 0), 2);
                let admitted = caller.admitted(&limiter, &keys, 3, 0);
                assert_eq!(admitted, if apart { 2 } else { 0 }, "{by:?}");
            }
        }
    }

    #[test]
    fn a_changed_rate_does_not_refill() {
        for by in [vec![], vec![Key::Identity]] {
            let keys = Keys::default();
            let before = Limiter::new(limit(10, 10, by.clone()));
            assert_eq!(SOMEBODY.admitted(&before, &keys, 8, 0), 8);
            let now = Moment::after_start(Duration::ZERO);
            let after = before.changed(limit(100, 50, by), now);
            assert_eq!(SOMEBODY.admitted(&after, &keys, 100, 0), 2);
            assert_eq!(SOMEBODY.admitted(&after, &keys, 100, 100), 10);
        }
    }

    #[test]
    fn what_is_told_apart_otherwise_begins_anew() {
        let keys = Keys::default();
        let before = Limiter::new(limit(1, 2, vec![]));
        assert_eq!(SOMEBODY.admitted(&before, &keys, 3, 0), 2);
        let now = Moment::after_start(Duration::ZERO);
        let after = before.changed(limit(1, 2, vec![Key::Identity]), now);
        assert_eq!(SOMEBODY.admitted(&after, &keys, 3, 0), 2);
        assert_eq!(after.used_buckets(now), 1);
    }

    #[test]
    fn who_is_refused_is_told_when_to_come_again() {
        let (limiter, keys) = (
            Limiter::new(limit(4, 2, vec![Key::Identity])),
            Keys::default(),
        );
        assert_eq!(SOMEBODY.admitted(&limiter, &keys, 2, 0), 2);
        let identity = SpiffeId::new("cluster.local", "demo", "order").unwrap();
        let asking = Asking {
            identity: Some(&identity),
            address: Ipv4Addr::LOCALHOST.into(),
            host: "user",
            request: &Request::new(Body::Empty),
        };
        let now = Moment::after_start(Duration::from_millis(50));
        let refused = Err(Refused {
            limit: 2,
            full_in: Duration::from_millis(450),
            retry_after: Duration::from_millis(200),
        });
        assert_eq!(limiter.check(&asking, &keys, now), refused);
        assert_eq!(limiter.take(&asking, &keys, now), refused);
    }
}

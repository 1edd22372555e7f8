//! How long an endpoint keeps an idle HTTP/1.1 connection, learned from what it says and does. Pure.
//!
//! A request sent while the endpoint closes the connection is lost, and a POST cannot be sent again. So a
//! connection is retired before the endpoint's patience ends, whatever our own idle timeout is.

use http::HeaderValue;
use std::time::{Duration, Instant};

/// Ages are seen up to one sweep late, and acted upon up to one sweep late.
const MARGIN: Duration = Duration::from_secs(2);

/// A connection closed so young tells of the endpoint's own end (a restart), not of its patience.
const YOUNG: Duration = Duration::from_secs(1);

/// What was learned is forgotten after this: an endpoint may have been reconfigured, and a limit that we
/// keep cannot be found too short.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What is known of an endpoint's patience.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct KeepAlive {
    learned: Option<Learned>,
    /// Seen once. A restart closes connections too, so it takes a second time at the same age to count.
    suspected: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Learned {
    limit: Duration,
    until: Instant,
}

impl KeepAlive {
    /// How long a connection may be idle and still be used; `None` when nothing is known.
    pub(super) fn limit(&self, now: Instant) -> Option<Duration> {
        self.learned
            .filter(|learned| now < learned.until)
            .map(|learned| learned.limit)
    }

    /// Takes in a `Keep-Alive: timeout=5` field (RFC 2068 section 19.7.1.1). Anything else says nothing.
    pub(super) fn announced(&mut self, field: &HeaderValue, now: Instant) {
        let parameters = field.to_str().unwrap_or_default().split(',');
        let timeout = parameters
            .filter_map(|parameter| parameter.trim().strip_prefix("timeout="))
            .find_map(|seconds| seconds.parse().ok());
        if let Some(seconds) = timeout {
            self.learn(Duration::from_secs(seconds), now);
        }
    }

    /// Takes in that the endpoint closed connections, the youngest of which had been idle for `age`.
    pub(super) fn closed(&mut self, age: Duration, now: Instant) {
        if age < YOUNG {
            return;
        }
        match self.suspected {
            Some(before) if before.abs_diff(age) <= MARGIN.max(age / 10) => {
                self.suspected = None;
                self.learn(before.min(age), now);
            }
            _ => self.suspected = Some(age),
        }
    }

    fn learn(&mut self, patience: Duration, now: Instant) {
        self.learned = Some(Learned {
            limit: patience.saturating_sub(MARGIN),
            until: now + REMEMBERED,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_announced_timeout_is_kept_with_a_margin() {
        let now = Instant::now();
        for (field, limit) in [
            ("timeout=5", Some(3)),
            ("max=100, timeout=72", Some(70)),
            ("timeout=1", Some(0)),
            ("timeout=soon", None),
            ("max=100", None),
        ] {
            let mut keep_alive = KeepAlive::default();
            keep_alive.announced(&HeaderValue::from_static(field), now);
            assert_eq!(keep_alive.limit(now), limit.map(seconds), "{field}");
        }
    }

    #[test]
    fn a_patience_seen_twice_is_learned_and_forgotten_after_a_while() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::default();
        keep_alive.closed(seconds(6), start);
        assert_eq!(keep_alive.limit(start), None);
        keep_alive.closed(seconds(5), start);
        assert_eq!(keep_alive.limit(start), Some(seconds(3)));
        assert_eq!(keep_alive.limit(start + REMEMBERED), None);
    }

    #[test]
    fn restarts_are_not_taken_for_impatience() {
        let now = Instant::now();
        let mut keep_alive = KeepAlive::default();
        for age in [
            Duration::ZERO,
            Duration::ZERO,
            seconds(40),
            seconds(7),
            seconds(20),
        ] {
            keep_alive.closed(age, now);
            assert_eq!(keep_alive.limit(now), None);
        }
    }
}

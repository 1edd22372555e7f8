//! What of a fault strikes a request: a pure function of the request and of random numbers.

use super::matches;
use crate::snapshot::route::{AbortStatus, Fault};
use http::Request;
use std::time::Duration;

/// What is to go wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Injection {
    /// It is held back for so long.
    pub delay: Option<Duration>,
    /// Then it is answered with this.
    pub abort: Option<AbortStatus>,
}

/// Decides once for a request to `host`, which is in lower case.
pub fn decide<B>(
    fault: &Fault,
    host: &str,
    request: &Request<B>,
    mut random: impl FnMut() -> u64,
) -> Injection {
    if !matches::fields(&fault.headers, host, request) {
        return Injection::default();
    }
    let delay = fault.delay.filter(|delay| delay.share.includes(random()));
    let abort = fault.abort.filter(|abort| abort.share.includes(random()));
    Injection {
        delay: delay.map(|delay| delay.duration),
        abort: abort.map(|abort| abort.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{
        Share,
        route::{Abort, Delay, Field, HeaderMatch, ValueMatch},
    };
    use http::{HeaderName, StatusCode};
    use proptest::prelude::*;

    const STATUS: AbortStatus = AbortStatus::Http(StatusCode::SERVICE_UNAVAILABLE);
    const DURATION: Duration = Duration::from_millis(100);

    fn fault(delayed: u32, aborted: u32) -> Fault {
        Fault {
            headers: Box::default(),
            delay: Some(Delay {
                share: Share::percent(delayed),
                duration: DURATION,
            }),
            abort: Some(Abort {
                share: Share::percent(aborted),
                status: STATUS,
            }),
        }
    }

    fn request() -> Request<()> {
        Request::get("/").header("x-test", "1").body(()).unwrap()
    }

    proptest! {
        #[test]
        fn delay_and_abort_strike_apart_from_each_other(delayed in 0..=100_u32, aborted in 0..=100_u32, first: u64, second: u64) {
            let mut random = [first, second].into_iter();
            let injection = decide(&fault(delayed, aborted), "user", &request(), || random.next().unwrap());
            prop_assert_eq!(injection, Injection {
                delay: Share::percent(delayed).includes(first).then_some(DURATION),
                abort: Share::percent(aborted).includes(second).then_some(STATUS),
            });
        }
    }

    #[test]
    fn a_fault_strikes_only_requests_with_its_fields() {
        for (name, struck) in [("x-test", true), ("x-other", false)] {
            let fault = Fault {
                headers: [HeaderMatch {
                    field: Field::Named(HeaderName::from_static(name)),
                    value: ValueMatch::Present,
                    invert: false,
                    absent_is_empty: false,
                }]
                .into(),
                ..fault(100, 100)
            };
            let injection = decide(&fault, "user", &request(), || 0);
            assert_eq!(injection != Injection::default(), struck);
        }
    }
}

use super::*;
use crate::snapshot::{breaker::GrpcCodes, retry::Hedge};
use proptest::prelude::*;
use std::num::NonZeroU32;

const BASE: Duration = Duration::from_millis(25);

fn policy(on: Conditions) -> Retry {
    Retry {
        retries: NonZeroU32::new(2).unwrap(),
        on,
        methods: [Method::GET, Method::PUT].into(),
        per_try_timeout: None,
        backoff: Backoff {
            base: BASE,
            max: BASE * 10,
            multiplier: 2.0,
            jitter: false,
        },
        retry_after: None,
        body_limit: 64 * 1024,
        hedge: None,
    }
}

fn on_server_errors() -> Retry {
    policy(Conditions {
        server_errors: true,
        ..Conditions::default()
    })
}

fn first_try_of(method: &Method) -> Circumstances<'_> {
    Circumstances {
        method,
        attempts: 1,
        replayable: true,
        retry_after: None,
        left: None,
        random: 0.5,
    }
}

fn answered(status: u16) -> Attempted {
    Attempted::Answered {
        status: StatusCode::from_u16(status).unwrap(),
        grpc_status: None,
        processed: Processed::Maybe,
    }
}

fn answered_grpc(code: u8) -> Attempted {
    Attempted::Answered {
        status: StatusCode::OK,
        grpc_status: Some(code),
        processed: Processed::Maybe,
    }
}

fn failed(error: RequestError) -> Attempted {
    Attempted::Failed {
        error,
        processed: error.processed(),
    }
}

fn is_retried(on: Conditions, attempted: &Attempted) -> bool {
    let decision = decide(&policy(on), attempted, &first_try_of(&Method::GET));
    matches!(decision, Decision::Again(_))
}

#[test]
fn each_condition_takes_in_what_its_name_says_and_nothing_else() {
    use RequestError::*;
    let before_request = Attempted::Failed {
        error: UpstreamReset,
        processed: Processed::Never,
    };
    let outcomes = [
        ("200", answered(200)),
        ("409", answered(409)),
        ("429", answered(429)),
        ("500", answered(500)),
        ("503", answered(503)),
        ("grpc 14", answered_grpc(14)),
        ("connect", failed(UpstreamConnectFailed)),
        ("connect timeout", failed(UpstreamConnectTimeout)),
        ("identity", failed(UpstreamIdentityMismatch)),
        ("refused", failed(UpstreamRefusedStream)),
        ("unsent", before_request),
        ("reset", failed(UpstreamReset)),
        ("malformed", failed(UpstreamProtocolError)),
        ("per try", failed(UpstreamTimeout)),
        ("nobody", failed(NoHealthyEndpoint)),
        ("ejected", failed(CircuitOpen)),
        ("limit", failed(MaxPendingRequests)),
        ("caller", failed(DownstreamReset)),
    ];
    let ends = [
        "connect",
        "connect timeout",
        "identity",
        "refused",
        "unsent",
        "reset",
        "malformed",
        "per try",
    ];
    let none = Conditions::default;
    for (on, expected) in [
        (none(), vec![]),
        (
            Conditions {
                connect_failure: true,
                ..none()
            },
            vec!["connect", "connect timeout", "identity"],
        ),
        (
            Conditions {
                refused_stream: true,
                ..none()
            },
            vec!["refused"],
        ),
        (
            Conditions {
                reset_before_request: true,
                ..none()
            },
            vec!["unsent"],
        ),
        (
            Conditions {
                reset: true,
                ..none()
            },
            ends.to_vec(),
        ),
        (
            Conditions {
                server_errors: true,
                ..none()
            },
            [&["500", "503"][..], &ends].concat(),
        ),
        (
            Conditions {
                gateway_error: true,
                ..none()
            },
            [&["503"][..], &ends].concat(),
        ),
        (
            Conditions {
                retriable_4xx: true,
                ..none()
            },
            vec!["409"],
        ),
        (
            Conditions {
                statuses: [StatusCode::TOO_MANY_REQUESTS].into(),
                ..none()
            },
            vec!["429"],
        ),
        (
            Conditions {
                grpc_codes: GrpcCodes::of(&[14]),
                ..none()
            },
            vec!["grpc 14"],
        ),
    ] {
        let retried = outcomes
            .iter()
            .filter(|(_, outcome)| is_retried(on.clone(), outcome));
        let retried: Vec<_> = retried.map(|(name, _)| *name).collect();
        assert_eq!(retried, expected, "{on:?}");
    }
}

#[test]
fn what_may_have_been_processed_is_left_alone_unless_its_method_is_allowed() {
    let retry = on_server_errors();
    for attempted in [answered(503), failed(RequestError::UpstreamReset)] {
        let decision = decide(&retry, &attempted, &first_try_of(&Method::POST));
        assert_eq!(decision, Decision::GiveUp(Ending::Unsafe));
        let decision = decide(&retry, &attempted, &first_try_of(&Method::PUT));
        assert_eq!(decision, Decision::Again(BASE));
    }
    let turned_away = Attempted::Answered {
        status: StatusCode::SERVICE_UNAVAILABLE,
        grpc_status: None,
        processed: Processed::Never,
    };
    for never in [failed(RequestError::UpstreamConnectFailed), turned_away] {
        let decision = decide(&retry, &never, &first_try_of(&Method::POST));
        assert_eq!(decision, Decision::Again(BASE));
    }
}

#[test]
fn every_grpc_call_is_a_post_which_the_policy_has_to_allow() {
    let careful = policy(Conditions {
        grpc_codes: GrpcCodes::of(&[14]),
        ..Conditions::default()
    });
    let call = first_try_of(&Method::POST);
    assert_eq!(
        decide(&careful, &answered_grpc(14), &call),
        Decision::GiveUp(Ending::Unsafe)
    );
    let retry = Retry {
        methods: [Method::POST].into(),
        ..careful
    };
    assert_eq!(
        decide(&retry, &answered_grpc(14), &call),
        Decision::Again(BASE)
    );
    assert_eq!(decide(&retry, &answered_grpc(13), &call), Decision::Settled);
}

#[test]
fn attempts_and_a_body_come_to_an_end() {
    let retry = on_server_errors();
    let get = first_try_of(&Method::GET);
    let third = Circumstances { attempts: 3, ..get };
    assert_eq!(
        decide(&retry, &answered(503), &third),
        Decision::GiveUp(Ending::Exhausted)
    );
    assert_eq!(decide(&retry, &answered(200), &third), Decision::Settled);
    let gone = Circumstances {
        replayable: false,
        ..get
    };
    assert_eq!(
        decide(&retry, &answered(503), &gone),
        Decision::GiveUp(Ending::Body)
    );
}

#[test]
fn nobody_waits_beyond_the_end_of_the_request() {
    let retry = on_server_errors();
    let get = first_try_of(&Method::GET);
    let with_left = |left| {
        decide(
            &retry,
            &answered(503),
            &Circumstances {
                left: Some(left),
                ..get
            },
        )
    };
    assert_eq!(with_left(BASE), Decision::GiveUp(Ending::Late));
    assert_eq!(with_left(BASE * 2), Decision::Again(BASE));
}

#[test]
fn retry_after_is_kept_to_up_to_what_the_policy_says() {
    let seconds = Duration::from_secs;
    let asks = |retry: &Retry, asked| {
        let get = Circumstances {
            retry_after: Some(seconds(asked)),
            ..first_try_of(&Method::GET)
        };
        decide(retry, &answered(503), &get)
    };
    let keeps = Retry {
        retry_after: Some(seconds(5)),
        ..on_server_errors()
    };
    assert_eq!(asks(&keeps, 5), Decision::Again(seconds(5) + BASE));
    assert_eq!(asks(&keeps, 6), Decision::GiveUp(Ending::RetryAfter));
    assert_eq!(asks(&on_server_errors(), 6), Decision::Again(BASE));
}

#[test]
fn hedging_takes_a_method_that_may_be_processed_twice() {
    let hedged = Retry {
        hedge: Some(Hedge { delay: BASE }),
        ..on_server_errors()
    };
    assert!(may_hedge(&hedged, &Method::GET));
    assert!(!may_hedge(&hedged, &Method::POST));
    assert!(!may_hedge(&on_server_errors(), &Method::GET));
}

#[test]
fn the_time_between_attempts_grows_to_its_bound() {
    let exact = policy(Conditions::default()).backoff;
    let waits: Vec<_> = (1..=6)
        .map(|retry| backoff(&exact, retry, 0.0).as_millis())
        .collect();
    assert_eq!(waits, [25, 50, 100, 200, 250, 250]);
}

fn any_outcome() -> impl Strategy<Value = Attempted> {
    prop_oneof![
        (200..600_u16).prop_map(answered),
        prop::sample::select(RequestError::ALL.to_vec()).prop_map(failed),
    ]
}

fn any_conditions() -> impl Strategy<Value = Conditions> {
    prop::collection::vec(any::<bool>(), 7).prop_map(|on| Conditions {
        connect_failure: on[0],
        refused_stream: on[1],
        reset_before_request: on[2],
        reset: on[3],
        server_errors: on[4],
        gateway_error: on[5],
        retriable_4xx: on[6],
        statuses: [StatusCode::TOO_MANY_REQUESTS].into(),
        grpc_codes: GrpcCodes::default(),
    })
}

proptest! {
    #[test]
    fn a_wait_lies_between_nothing_and_what_the_backoff_has_grown_to(
        base in 1..10_000_000_000_u64,
        max in 1..100_000_000_000_u64,
        multiplier in 1.0..100.0_f64,
        retry in 1..10_000_u32,
        random in 0.0..1.0_f64,
    ) {
        let config = Backoff {
            base: Duration::from_nanos(base),
            max: Duration::from_nanos(max),
            multiplier,
            jitter: true,
        };
        let exact = Backoff { jitter: false, ..config.clone() };
        let wait = backoff(&config, retry, random);
        prop_assert!(wait <= config.max);
        prop_assert!(wait <= backoff(&exact, retry, random));
        prop_assert!(backoff(&exact, retry, random) <= backoff(&exact, retry + 1, random));
    }

    #[test]
    fn nothing_that_may_have_been_processed_is_tried_again_for_a_method_that_is_not_allowed(
        on in any_conditions(),
        attempted in any_outcome(),
        attempts in 1..5_u32,
        replayable: bool,
    ) {
        let maybe = match attempted {
            Attempted::Answered { .. } => true,
            Attempted::Failed { processed, .. } => processed == Processed::Maybe,
        };
        prop_assume!(maybe);
        let post = Circumstances { attempts, replayable, ..first_try_of(&Method::POST) };
        prop_assert!(!matches!(decide(&policy(on), &attempted, &post), Decision::Again(_)));
    }

    #[test]
    fn the_method_makes_no_difference_to_what_provably_was_not_processed(
        on in any_conditions(),
        error in prop::sample::select(RequestError::ALL.to_vec()),
        attempts in 1..5_u32,
        replayable: bool,
    ) {
        prop_assume!(error.processed() == Processed::Never);
        let retry = policy(on);
        let get = Circumstances { attempts, replayable, ..first_try_of(&Method::GET) };
        let post = Circumstances { method: &Method::POST, ..get };
        prop_assert_eq!(
            decide(&retry, &failed(error), &get),
            decide(&retry, &failed(error), &post)
        );
    }

    #[test]
    fn there_are_never_more_attempts_than_the_policy_has(
        on in any_conditions(),
        attempted in any_outcome(),
        attempts in 3..u32::MAX,
    ) {
        let get = Circumstances { attempts, ..first_try_of(&Method::GET) };
        prop_assert!(!matches!(decide(&policy(on), &attempted, &get), Decision::Again(_)));
    }
}

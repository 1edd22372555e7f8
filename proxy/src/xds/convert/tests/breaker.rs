use super::{number, seconds};
use crate::{
    snapshot::{
        Breaker, Share,
        breaker::{FailureRatio, Failures, GrpcCodes},
    },
    xds::convert::breaker::breaker as convert,
};
use http::StatusCode;
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use weft_xds_proto::{
    envoy::envoy::config::cluster::v3::OutlierDetection,
    weft::v1::{Breaker as Message, breaker},
};

const SECOND: Duration = Duration::from_secs(1);

fn some(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

/// As Weft's control plane sends it.
fn detection() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: number(7),
        enforcing_consecutive_5xx: number(100),
        enforcing_success_rate: number(0),
        enforcing_consecutive_gateway_failure: number(0),
        base_ejection_time: seconds(20),
        max_ejection_time: seconds(200),
        max_ejection_time_jitter: seconds(2),
        max_ejection_percent: number(30),
        ..OutlierDetection::default()
    }
}

fn own() -> Message {
    Message {
        failure_ratio: Some(breaker::FailureRatio {
            ratio: 0.6,
            minimum_requests: 30,
            window: seconds(5),
        }),
        failures: Some(breaker::Failures {
            connect_errors: true,
            server_errors: false,
            statuses: vec![429],
            grpc_codes: vec![14],
            slower_than: seconds(3),
        }),
        half_open_requests: 5,
    }
}

fn converted(detection: &OutlierDetection, own: Option<&Message>) -> Option<Arc<Breaker>> {
    convert(Some(detection), own).unwrap()
}

fn refused(detection: &OutlierDetection, own: Option<&Message>) -> String {
    let fault = convert(Some(detection), own).unwrap_err();
    format!("{}: {}", fault.field, fault.reason)
}

#[test]
fn every_field_is_taken_over() {
    assert_eq!(
        converted(&detection(), Some(&own())).as_deref(),
        Some(&Breaker {
            consecutive_failures: some(7),
            failure_ratio: Some(FailureRatio {
                ratio: Share::percent(60),
                minimum_requests: some(30).unwrap(),
                window: 5 * SECOND,
            }),
            failures: Failures {
                connect_errors: true,
                server_errors: false,
                statuses: Box::new([StatusCode::TOO_MANY_REQUESTS]),
                grpc_codes: GrpcCodes::of(&[14]),
                slower_than: Some(3 * SECOND),
            },
            open_for: 20 * SECOND,
            max_open_for: 200 * SECOND,
            jitter: 2 * SECOND,
            half_open_requests: some(5).unwrap(),
            max_ejected: Share::percent(30),
        })
    );
}

#[test]
fn what_is_absent_has_envoys_default() {
    assert_eq!(
        converted(&OutlierDetection::default(), None).as_deref(),
        Some(&Breaker {
            consecutive_failures: some(5),
            failure_ratio: None,
            failures: Failures::default(),
            open_for: 30 * SECOND,
            max_open_for: 300 * SECOND,
            jitter: Duration::ZERO,
            half_open_requests: some(1).unwrap(),
            max_ejected: Share::percent(10),
        })
    );
    let ratio = breaker::FailureRatio {
        ratio: 1.0,
        ..breaker::FailureRatio::default()
    };
    let own = Message {
        failure_ratio: Some(ratio),
        ..Message::default()
    };
    assert_eq!(
        converted(&OutlierDetection::default(), Some(&own)).and_then(|b| b.failure_ratio.clone()),
        Some(FailureRatio {
            ratio: Share::ALL,
            minimum_requests: some(20).unwrap(),
            window: 10 * SECOND,
        })
    );
    let long = OutlierDetection {
        base_ejection_time: seconds(600),
        ..OutlierDetection::default()
    };
    let max_open_for = converted(&long, None).map(|breaker| breaker.max_open_for);
    assert_eq!(max_open_for, Some(600 * SECOND));
}

#[test]
fn without_outlier_detection_there_is_no_breaker() {
    assert_eq!(convert(None, Some(&own())), Ok(None));
}

#[test]
fn a_breaker_that_nothing_ejects_by_is_none() {
    let off = OutlierDetection {
        enforcing_consecutive_5xx: number(0),
        ..detection()
    };
    assert_eq!(converted(&off, None), None);
    let zero = OutlierDetection {
        consecutive_5xx: number(0),
        ..detection()
    };
    assert_eq!(converted(&zero, None), None);
    let by_ratio = converted(&off, Some(&own()));
    assert_eq!(by_ratio.map(|b| b.consecutive_failures), Some(None));
}

#[test]
fn failure_percentages_count_where_there_is_no_ratio() {
    let percentage = OutlierDetection {
        enforcing_failure_percentage: number(100),
        failure_percentage_threshold: number(40),
        failure_percentage_minimum_hosts: number(1),
        failure_percentage_request_volume: number(9),
        interval: seconds(4),
        ..detection()
    };
    let ratio = |own| converted(&percentage, own).and_then(|b| b.failure_ratio.clone());
    assert_eq!(
        ratio(None),
        Some(FailureRatio {
            ratio: Share::percent(40),
            minimum_requests: some(9).unwrap(),
            window: 4 * SECOND,
        })
    );
    let window = ratio(Some(&own())).map(|ratio| ratio.window);
    assert_eq!(window, Some(5 * SECOND));
}

#[test]
fn what_this_proxy_cannot_honour_is_refused_by_field() {
    let with = |change: fn(&mut OutlierDetection)| {
        let mut detection = detection();
        change(&mut detection);
        refused(&detection, None)
    };
    for (refused, expected) in [
        (
            with(|d| d.base_ejection_time = seconds(0)),
            "outlier_detection.base_ejection_time: must be > 0, got 0s",
        ),
        (
            with(|d| d.max_ejection_time = seconds(-1)),
            "outlier_detection.max_ejection_time: must be > 0, got -1s",
        ),
        (
            with(|d| d.max_ejection_time_jitter = seconds(-1)),
            "outlier_detection.max_ejection_time_jitter: must not be negative, got -1s",
        ),
        (
            with(|d| d.max_ejection_percent = number(101)),
            "outlier_detection.max_ejection_percent: must be at most 100, got 101",
        ),
        (
            with(|d| d.enforcing_consecutive_5xx = number(50)),
            "outlier_detection.enforcing_consecutive_5xx: must be 0 or 100, got 50",
        ),
        (
            with(|d| d.enforcing_success_rate = number(100)),
            "outlier_detection.enforcing_success_rate: is not supported by this proxy",
        ),
        (
            with(|d| d.enforcing_consecutive_gateway_failure = number(1)),
            "outlier_detection.enforcing_consecutive_gateway_failure: is not supported by this proxy",
        ),
        (
            with(|d| d.split_external_local_origin_errors = true),
            "outlier_detection.split_external_local_origin_errors: is not supported by this proxy",
        ),
        (
            with(|d| d.enforcing_failure_percentage = number(100)),
            "outlier_detection.failure_percentage_minimum_hosts: must be 1: \
             this proxy judges each endpoint by itself",
        ),
    ] {
        assert_eq!(refused, expected);
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_field() {
    let ratio = |ratio| {
        let ratio = breaker::FailureRatio {
            ratio,
            ..breaker::FailureRatio::default()
        };
        let own = Message {
            failure_ratio: Some(ratio),
            ..Message::default()
        };
        refused(&detection(), Some(&own))
    };
    let path = "metadata.typed_filter_metadata[\"weft.dev\"].breaker";
    for wrong in [0.0, -0.1, 1.1, f64::NAN] {
        let expected =
            format!("{path}.failure_ratio.ratio: must be > 0 and at most 1, got {wrong}");
        assert_eq!(ratio(wrong), expected);
    }
    let failures = |failures| {
        let own = Message {
            failures: Some(failures),
            ..Message::default()
        };
        refused(&detection(), Some(&own))
    };
    assert_eq!(
        failures(breaker::Failures {
            statuses: vec![503, 600],
            ..breaker::Failures::default()
        }),
        format!("{path}.failures.statuses[1]: must be 100 to 599, got 600")
    );
    assert_eq!(
        failures(breaker::Failures {
            grpc_codes: vec![0],
            ..breaker::Failures::default()
        }),
        format!("{path}.failures.grpc_codes[0]: must be 1 to 16, got 0")
    );
    assert_eq!(
        failures(breaker::Failures {
            slower_than: seconds(0),
            ..breaker::Failures::default()
        }),
        format!("{path}.failures.slower_than: must be > 0, got 0s")
    );
}

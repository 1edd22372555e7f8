use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::fake;

fn status(value: Value) -> TokenReviewStatus {
    serde_json::from_value(value).unwrap()
}

fn good() -> Value {
    json!({
        "authenticated": true,
        "audiences": [AUDIENCE],
        "user": {
            "username": "system:serviceaccount:demo:user",
            "uid": "1",
            "groups": ["system:serviceaccounts"],
            "extra": {
                POD_NAME: ["user-0"],
                POD_UID: ["a-b-c"],
            },
        },
    })
}

fn user() -> Subject {
    Subject {
        namespace: "demo".to_owned(),
        service_account: "user".to_owned(),
        pod: "user-0".to_owned(),
    }
}

/// An API that gives one answer, and counts how often it is asked.
fn reviewer(code: u16, answer: Value) -> (Reviewer, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let client = fake::client(move |request| {
        assert_eq!(request.path, "/apis/authentication.k8s.io/v1/tokenreviews");
        assert_eq!(request.body["spec"]["audiences"], json!([AUDIENCE]));
        counter.fetch_add(1, Ordering::Relaxed);
        let answer = (code, answer.clone());
        async move { answer }
    });
    (Reviewer::new(client, ReviewMetrics::default()), asked)
}

#[test]
fn a_bound_token_of_our_audience_proves_its_pod() {
    assert_eq!(subject(status(good())), Ok(user()));
}

#[test]
fn what_proves_no_pod_is_refused_with_the_reason() {
    for (path, value, reason) in [
        ("/authenticated", json!(false), "does not know it"),
        ("/audiences", json!([]), "not for weft-control-plane"),
        (
            "/audiences",
            json!(["https://kubernetes.default.svc"]),
            "not for weft-control-plane",
        ),
        ("/user/username", json!("admin"), "no service account"),
        (
            "/user/username",
            json!("system:serviceaccount:demo"),
            "no service account",
        ),
        ("/user/extra", json!({}), "none of its pods"),
        (
            "/user/extra",
            json!({POD_NAME: ["user-0"]}),
            "none of its pods",
        ),
        (
            "/user/extra",
            json!({POD_NAME: ["user-0", "user-1"], POD_UID: ["a"]}),
            "none of its pods",
        ),
    ] {
        let mut answer = good();
        *answer.pointer_mut(path).unwrap() = value;
        let refused = subject(status(answer)).unwrap_err();
        assert!(refused.contains(reason), "{path}: {refused}");
    }
    let expired = json!({"authenticated": false, "error": "token has expired"});
    let refused = subject(status(expired)).unwrap_err();
    assert!(refused.starts_with("token has expired;"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_remembered_for_a_moment() {
    let (reviewer, asked) = reviewer(201, json!({"spec": {}, "status": good()}));
    for _ in 0..3 {
        assert_eq!(reviewer.review("token").await, Ok(user()));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(reviewer.review("another").await, Ok(user()));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    tokio::time::advance(REMEMBERED).await;
    assert_eq!(reviewer.review("token").await, Ok(user()));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    assert_eq!(reviewer.metrics.accepted.get(), 3);
    assert_eq!(reviewer.metrics.remembered.get(), 2);
}

#[tokio::test]
async fn a_refusal_is_not_remembered() {
    let answer = json!({"spec": {}, "status": {"authenticated": false}});
    let (reviewer, asked) = reviewer(201, answer);
    for _ in 0..2 {
        assert!(matches!(
            reviewer.review("token").await,
            Err(ReviewError::Refused(_))
        ));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(reviewer.metrics.refused.get(), 2);
}

#[tokio::test]
async fn an_api_that_fails_says_nothing_about_the_token() {
    let failure = json!({
        "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "tokenreviews is forbidden",
    });
    let (reviewer, _) = reviewer(403, failure);
    let error = reviewer.review("token").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the service account token cannot be reviewed now: tokenreviews is forbidden; \
         the control plane needs the right to create tokenreviews"
    );
    assert_eq!(reviewer.metrics.failed.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_silent_is_not_waited_for_for_ever() {
    let client = fake::client(|_| std::future::pending());
    let reviewer = Reviewer::new(client, ReviewMetrics::default());
    assert!(matches!(
        reviewer.review("token").await,
        Err(ReviewError::Unavailable(_))
    ));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut recent = Recent::default();
    let now = Instant::now();
    for number in 0..=CAPACITY {
        recent.insert(digest(&number.to_string()), user(), now);
    }
    assert_eq!(recent.subjects.len(), CAPACITY);
    assert_eq!(recent.get(&digest("0"), now), None);
    assert_eq!(recent.get(&digest("1"), now), Some(user()));
    assert_eq!(recent.get(&digest("1"), now + REMEMBERED), None);
    assert!(recent.subjects.is_empty() && recent.order.is_empty());
}

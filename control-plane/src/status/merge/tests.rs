use super::*;
use crate::{status::report::report, xds::Progress};

const EARLIER: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-02-02T00:00:00Z";

fn subject(generation: i64, request: &str, status: Value) -> Subject {
    let object = json!({
        "metadata": {
            "name": "p", "namespace": "demo", "uid": "u", "resourceVersion": "1", "generation": generation,
        },
        "spec": {
            "targetRefs": [{"kind": "Service", "name": "user"}],
            "timeout": {"request": request},
        },
        "status": status,
    });
    Subject::read(Spoken::TrafficPolicy, object).unwrap()
}

fn entries(subject: &Subject, acked: usize) -> Vec<Entry> {
    let progress = Progress {
        concerned: 2,
        acked,
        refusals: Vec::new(),
    };
    report(subject, &[], &progress)
}

fn condition(
    generation: i64,
    ty: &str,
    status: &str,
    since: &str,
    reason: &str,
    message: &str,
) -> Value {
    json!({
        "type": ty, "status": status, "observedGeneration": generation, "lastTransitionTime": since,
        "reason": reason, "message": message,
    })
}

/// The status of a policy that is in force.
fn in_force(generation: i64, since: &str) -> Value {
    json!({"ancestors": [{
        "ancestorRef": {"group": "", "kind": "Service", "name": "user"},
        "controllerName": "weft.dev/controller",
        "conditions": [
            condition(generation, "Accepted", "True", since, "Accepted", ""),
            condition(generation, "ResolvedRefs", "True", since, "ResolvedRefs", ""),
            condition(generation, "Programmed", "True", since, "Programmed", "2/2 proxies"),
        ],
    }]})
}

#[test]
fn what_was_never_spoken_of_is_spoken_of_now() {
    let subject = subject(1, "1s", Value::Null);
    assert_eq!(
        difference(&subject, &entries(&subject, 2), NOW),
        Some(Difference {
            status: in_force(1, NOW),
            pressing: true,
            bad_news: Vec::new(),
        })
    );
}

#[test]
fn what_was_written_is_not_written_again() {
    let subject = subject(1, "1s", in_force(1, EARLIER));
    assert_eq!(difference(&subject, &entries(&subject, 2), NOW), None);
}

#[test]
fn a_new_generation_is_told_and_leaves_the_time_of_what_is_as_before() {
    let subject = subject(2, "2s", in_force(1, EARLIER));
    let found = difference(&subject, &entries(&subject, 2), NOW).unwrap();
    assert_eq!(found.status, in_force(2, EARLIER));
    assert!(found.pressing);
}

#[test]
fn the_time_is_of_when_the_status_last_changed() {
    let subject = subject(1, "1s", in_force(1, EARLIER));
    let found = difference(&subject, &entries(&subject, 1), NOW).unwrap();
    let mut expected = in_force(1, EARLIER);
    expected["ancestors"][0]["conditions"][2] =
        condition(1, "Programmed", "False", NOW, "Pending", "1/2 proxies");
    assert_eq!(found.status, expected);
    assert_eq!(found.bad_news, [], "proxies will answer in a moment");
}

#[test]
fn numbers_of_proxies_press_nobody() {
    let subject = subject(1, "1s", in_force(1, EARLIER));
    let progress = Progress {
        concerned: 3,
        acked: 3,
        refusals: Vec::new(),
    };
    let found = difference(&subject, &report(&subject, &[], &progress), NOW).unwrap();
    assert!(!found.pressing);
}

#[test]
fn what_another_controller_says_stays_as_it_is() {
    let other = json!({
        "ancestorRef": {"kind": "Gateway", "name": "g", "futureField": 1},
        "controllerName": "example.com/other",
        "conditions": [],
    });
    let own = in_force(1, EARLIER)["ancestors"][0].clone();
    let status = json!({"ancestors": [own, other]});
    let kept = subject(1, "1s", status.clone());
    assert_eq!(difference(&kept, &entries(&kept, 2), NOW), None);
    let changed = subject(2, "2s", status);
    let found = difference(&changed, &entries(&changed, 2), NOW).unwrap();
    let own = in_force(2, EARLIER)["ancestors"][0].clone();
    assert_eq!(found.status, json!({"ancestors": [other, own]}));
}

#[test]
fn a_policy_that_is_no_longer_good_is_bad_news_once() {
    let refused = subject(2, "soon", in_force(1, EARLIER));
    let found = difference(&refused, &entries(&refused, 2), NOW).unwrap();
    let told: Vec<_> = found.bad_news.iter().map(|news| news.reason).collect();
    assert_eq!(told, ["Invalid"]);
    let spoken_of = subject(3, "later", found.status);
    let again = difference(&spoken_of, &entries(&spoken_of, 2), NOW).unwrap();
    assert_eq!(again.bad_news, []);
}

#[test]
fn what_is_no_longer_a_matter_of_wefts_is_no_longer_spoken_of() {
    let own = json!({
        "parentRef": {"group": "", "kind": "Service", "name": "user"},
        "controllerName": "weft.dev/controller",
        "conditions": [],
    });
    let other = json!({"parentRef": {"name": "g"}, "controllerName": "example.com/other"});
    let route = json!({
        "metadata": {"name": "r", "namespace": "demo"},
        "spec": {"parentRefs": [{"name": "g"}]},
        "status": {"parents": [own, other]},
    });
    let subject = Subject::read(Spoken::HttpRoute, route).unwrap();
    let found = difference(&subject, &[], NOW).unwrap();
    assert_eq!(found.status, json!({"parents": [other]}));
}

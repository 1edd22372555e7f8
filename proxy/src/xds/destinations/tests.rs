use super::*;
use crate::snapshot::Protocol;

const IDLE: Duration = Duration::from_secs(300);

fn destination(name: &str) -> Destination {
    Destination {
        name: name.into(),
        protocol: Protocol::Http,
        routes: None,
        tcp: None,
    }
}

fn pair() -> (Destinations, Feed) {
    Destinations::new("inbound/demo/user-0".into(), Duration::from_secs(5))
}

fn known(resolution: Result<Resolution, RequestError>) -> Arc<DestinationHandle> {
    match resolution.unwrap() {
        Resolution::Known(handle) => handle,
        Resolution::Unknown => panic!("unknown"),
    }
}

#[tokio::test]
async fn those_who_ask_for_one_name_share_one_question_and_its_answer() {
    let (destinations, mut feed) = pair();
    let (one, other, ()) = tokio::join!(
        destinations.resolve("user"),
        destinations.resolve("user"),
        async {
            assert_eq!(feed.wanted().await.as_deref(), Some("user"));
            feed.publish(destination("user"));
        }
    );
    assert!(Arc::ptr_eq(&known(one), &known(other)));
    assert!(feed.wanted.try_recv().is_err(), "asked twice");
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_in_time_the_configuration_is_unavailable() {
    let (destinations, feed) = pair();
    assert_eq!(
        destinations.resolve("user").await.unwrap_err(),
        RequestError::ConfigUnavailable
    );
    // A late answer still counts.
    feed.publish(destination("user"));
    assert!(destinations.get("user").is_some());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_will_not_come_is_not_waited_for() {
    let (destinations, feed) = pair();
    let began = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(destinations.resolve("user"), async {
        tokio::task::yield_now().await;
        feed.unavailable(&"user".into());
    });
    assert_eq!(answer.unwrap_err(), RequestError::ConfigUnavailable);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_waits_for_any_more_is_not_asked_for_any_more() {
    let (destinations, feed) = pair();
    destinations.resolve("user").await.unwrap_err();
    assert_eq!(feed.forget_idle(IDLE, Instant::now()), ["user".into()]);
    assert_eq!(feed.forget_idle(IDLE, Instant::now()), []);
}

#[tokio::test]
async fn a_destination_is_forgotten_when_it_is_idle_and_nobody_holds_it() {
    let (destinations, feed) = pair();
    feed.publish(destination("user"));
    let handle = destinations.get("user").unwrap();
    let now = Instant::now();
    assert_eq!(
        feed.forget_idle(IDLE, now + IDLE),
        [],
        "somebody holds the handle"
    );
    handle.touch(now + IDLE);
    drop(handle);
    assert_eq!(
        feed.forget_idle(IDLE, now + IDLE),
        [],
        "it has just been used"
    );
    assert_eq!(feed.forget_idle(IDLE, now + 2 * IDLE), ["user".into()]);
    assert!(destinations.get("user").is_none());
}

#[tokio::test]
async fn an_unknown_name_is_remembered_as_long_as_it_is_asked_for() {
    let (destinations, feed) = pair();
    feed.unknown(&"nobody".into(), None);
    assert!(matches!(
        destinations.resolve("nobody").await,
        Ok(Resolution::Unknown)
    ));
    let now = Instant::now();
    assert_eq!(feed.forget_idle(IDLE, now), []);
    assert_eq!(
        feed.forget_idle(IDLE, now + IDLE + Duration::from_secs(1)),
        ["nobody".into()]
    );
}

#[test]
fn of_too_many_unknown_names_some_are_forgotten() {
    let (_destinations, feed) = pair();
    for port in 0..MAX_UNKNOWN + 10 {
        feed.unknown(&format!("10.0.0.1:{port}").into(), None);
    }
    assert_eq!(feed.forget_idle(IDLE, Instant::now()).len(), 10);
}

#[test]
fn a_destination_that_comes_back_serves_through_the_same_handle() {
    let (destinations, feed) = pair();
    feed.publish(destination("user"));
    let handle = destinations.get("user").unwrap();
    let rest = Destination {
        protocol: Protocol::Tcp,
        ..destination("user")
    };
    feed.unknown(&"user".into(), Some(rest.clone()));
    assert!(destinations.get("user").is_none());
    assert_eq!(*handle.load(), rest);
    feed.publish(destination("user"));
    assert!(Arc::ptr_eq(&handle, &destinations.get("user").unwrap()));
    assert_eq!(*handle.load(), destination("user"));
}

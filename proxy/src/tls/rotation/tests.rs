//! A fake issuer and paused time.

use super::*;
use crate::tls::{
    Issued,
    testing::{Leaf, TestCa},
};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::SystemTime,
};
use tokio::time::Instant;

const USER: &str = "spiffe://cluster.local/ns/demo/sa/user";
const LIFE: Duration = Duration::from_secs(3600);

/// Issues certificates as long as it is not told to fail, and notes when it was asked.
struct FakeIssuer {
    ca: TestCa,
    clock: Clock,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    failures_to_come: AtomicU32,
    asked: Mutex<Vec<Instant>>,
}

impl CertificateSource for FakeIssuer {
    fn describe(&self) -> String {
        "fake issuer".to_owned()
    }

    fn requested(&self) -> Option<&SpiffeId> {
        None
    }

    async fn obtain(&mut self) -> Result<Issued, SourceError> {
        self.state.asked.lock().unwrap().push(Instant::now());
        let failing = self.state.failures_to_come.load(Ordering::Relaxed);
        if failing > 0 {
            self.state
                .failures_to_come
                .store(failing - 1, Ordering::Relaxed);
            return Err(SourceError::Issuer {
                code: tonic::Code::Unavailable,
                message: "told to fail".to_owned(),
            });
        }
        let now = (self.clock)();
        Ok(self.ca.issue(&Leaf {
            not_before: now,
            not_after: now + LIFE,
            ..Leaf::of(&[USER])
        }))
    }

    async fn renewal_due(&mut self, current: &Credentials, clock: &Clock) {
        crate::tls::source::renewal_due(current.not_after, clock).await;
    }
}

/// A wall clock that follows tokio's paused one.
fn clock() -> Clock {
    let (started, began) = (SystemTime::now(), Instant::now());
    Arc::new(move || started + began.elapsed())
}

fn start() -> (Identity, Arc<State>) {
    let identity = Identity::new();
    let state = Arc::new(State::default());
    let issuer = FakeIssuer {
        ca: TestCa::root("mesh"),
        clock: clock(),
        state: state.clone(),
    };
    tokio::spawn(run(issuer, identity.clone(), clock()));
    (identity, state)
}

async fn next_installation(identity: &Identity) -> Arc<Credentials> {
    identity.changes().changed().await.unwrap();
    identity.current().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_with_a_new_key_at_about_two_thirds_of_its_life() {
    let (identity, state) = start();
    let first = identity.ready().await;
    let second = next_installation(&identity).await;
    let asked = state.asked.lock().unwrap().clone();
    let renewed_after = asked[1] - asked[0];
    assert!(
        (LIFE.mul_f64(0.59)..LIFE.mul_f64(0.74)).contains(&renewed_after),
        "renewed after {renewed_after:?} of {LIFE:?}"
    );
    assert_ne!(
        first.certified_key.key.public_key(),
        second.certified_key.key.public_key()
    );
}

#[tokio::test(start_paused = true)]
async fn while_the_issuer_fails_it_is_asked_again_and_the_old_certificate_stays() {
    let (identity, state) = start();
    let first = identity.ready().await;
    state.failures_to_come.store(5, Ordering::Relaxed);
    let mut changes = identity.changes();
    while state.failures_to_come.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let current = identity.current().unwrap();
        assert!(Arc::ptr_eq(&first, &current));
    }
    assert_eq!(
        identity.status().failure.as_deref(),
        Some("the issuer answered Unavailable: told to fail")
    );
    changes.changed().await.unwrap();
    assert!(!Arc::ptr_eq(&first, &identity.current().unwrap()));
    assert_eq!(identity.status().failures, 5);
    assert_eq!(identity.status().failure, None);

    let asked = state.asked.lock().unwrap().clone();
    let gaps: Vec<_> = asked[1..]
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    assert!(
        gaps[0] <= RETRY_FIRST && gaps[4] > gaps[0] && gaps[4] <= RETRY_CAP,
        "{gaps:?}"
    );
}

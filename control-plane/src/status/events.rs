//! What a person should notice, as events of the object that it is about.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use super::{report::Statement, subject::Subject};
use crate::api::status::CONTROLLER_NAME;

/// An event says no more (`events.k8s.io`, `note`).
const NOTE_BYTES: usize = 1024;

/// Writes events; the same about the same object, soon again, becomes one of a series.
#[derive(Clone)]
pub(super) struct Herald(Recorder);

impl Herald {
    pub(super) fn new(client: Client, replica: &str) -> Self {
        let reporter = Reporter {
            controller: CONTROLLER_NAME.to_owned(),
            instance: Some(replica.to_owned()),
        };
        Self(Recorder::new(client, reporter))
    }

    /// Tells what has come to be wrong with an object. An event that cannot be written is no loss: the status says it.
    pub(super) async fn tell(&self, subject: &Subject, bad_news: &[Statement]) {
        for news in bad_news {
            let told = self.0.publish(&event(news), &reference(subject)).await;
            if let Err(error) = told {
                tracing::debug!(object = %subject.key, %error, "an event cannot be written");
            }
        }
    }
}

fn event(news: &Statement) -> Event {
    let end = news.message.floor_char_boundary(NOTE_BYTES);
    Event {
        type_: EventType::Warning,
        reason: news.reason.to_owned(),
        note: Some(news.message[..end].to_owned()),
        action: match news.ty {
            "Accepted" => "Accept",
            "ResolvedRefs" => "ResolveRefs",
            _ => "Program",
        }
        .to_owned(),
        secondary: None,
    }
}

fn reference(subject: &Subject) -> ObjectReference {
    let namespace = subject.key.namespace.to_string();
    ObjectReference {
        api_version: Some(subject.spoken.api_version().to_owned()),
        kind: Some(subject.spoken.kind().to_owned()),
        name: Some(subject.key.name.to_string()),
        namespace: Some(namespace).filter(|namespace| !namespace.is_empty()),
        uid: Some(subject.uid.clone()),
        ..ObjectReference::default()
    }
}

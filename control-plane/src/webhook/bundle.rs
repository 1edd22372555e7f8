//! The roots in the webhook's configuration, by which the API server verifies our certificate.
//!
//! Of the `MutatingWebhookConfiguration` `weft-injector` only `clientConfig.caBundle` is written, by the
//! replica that leads, whenever it is not what it should be: at the start, when roots change, and when
//! somebody else has changed it.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use k8s_openapi::{
    ByteString, api::admissionregistration::v1::MutatingWebhookConfiguration as Configuration,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};

use crate::{
    ca::Ca,
    kubernetes::{FIELD_MANAGER, Leadership},
};

/// The name of the configuration.
pub const CONFIGURATION: &str = "weft-injector";

/// After an attempt that failed, such as one that crossed somebody else's.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the roots in the configuration current while this replica leads. Never ends.
pub async fn keep_current(client: Client, ca: Arc<Ca>, mut leadership: Leadership) {
    let api = Api::all(client);
    loop {
        leadership.acquired().await;
        tokio::select! {
            () = lead(&api, &ca) => {}
            () = leadership.lost() => {}
        }
    }
}

async fn lead(api: &Api<Configuration>, ca: &Ca) {
    let mut authorities = ca.follow();
    let seen = watcher::watch_object(api.clone(), CONFIGURATION);
    let mut seen = pin!(seen.default_backoff());
    let mut configuration = None;
    let mut failed = false;
    loop {
        tokio::select! {
            next = seen.next() => match next {
                Some(Ok(now)) => configuration = now,
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot watch the webhook's configuration");
                    continue;
                }
                None => return,
            },
            changed = authorities.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PAUSE), if failed => {}
        }
        let roots = authorities.borrow_and_update().bundle();
        let Some(patch) = configuration
            .as_ref()
            .and_then(|now| difference(now, &roots))
        else {
            failed = false;
            continue;
        };
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(patch);
        match api.patch(CONFIGURATION, &params, &patch).await {
            Ok(now) => {
                tracing::info!(configuration = CONFIGURATION, "roots written");
                configuration = Some(now);
                failed = false;
            }
            Err(error) => {
                tracing::warn!(%error, configuration = CONFIGURATION, "cannot write the roots");
                failed = true;
            }
        }
    }
}

/// What to change so that every webhook has these roots, if anything: for the very version that was seen, as
/// another one may have other webhooks.
fn difference(configuration: &Configuration, roots: &str) -> Option<Value> {
    let roots = ByteString(roots.as_bytes().to_vec());
    let webhooks = configuration.webhooks.iter().flatten();
    let others =
        webhooks.filter(|webhook| webhook.client_config.ca_bundle.as_ref() != Some(&roots));
    let changes: Vec<_> = others
        .map(|webhook| json!({ "name": webhook.name, "clientConfig": { "caBundle": roots } }))
        .collect();
    (!changes.is_empty()).then(|| {
        json!({
            "metadata": { "resourceVersion": configuration.metadata.resource_version },
            "webhooks": changes,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundles: [Option<&str>; 2]) -> Configuration {
        let webhooks = bundles.iter().zip(["a", "b"]).map(|(bundle, name)| {
            let bundle = bundle.map(|text| ByteString(text.as_bytes().to_vec()));
            json!({
                "name": name,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "clientConfig": { "caBundle": bundle },
            })
        });
        let webhooks: Vec<_> = webhooks.collect();
        serde_json::from_value(json!({
            "metadata": { "name": CONFIGURATION, "resourceVersion": "7" },
            "webhooks": webhooks,
        }))
        .unwrap()
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let roots = "roots";
        assert_eq!(difference(&configuration([Some(roots); 2]), roots), None);
    }

    #[test]
    fn only_the_roots_that_differ_are_written() {
        let patch = difference(&configuration([Some("roots"), None]), "roots").unwrap();
        assert_eq!(
            patch,
            json!({
                "metadata": { "resourceVersion": "7" },
                "webhooks": [{ "name": "b", "clientConfig": { "caBundle": "cm9vdHM=" } }],
            })
        );
    }
}

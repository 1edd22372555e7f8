//! The MeshConfig that an installation brings along: what a file says becomes the object `default` of the cluster.
//!
//! A chart cannot bring it itself, as Helm looks up the kinds of a release before it makes their definitions.
//! The leader applies the fields that the file names, and forces none: what somebody else has set stays, and
//! the log names it. What the file no longer names goes back to its default.
//!
//! Needs, in the whole cluster, `create` and `patch` on the `meshconfigs` (`weft.dev`) named `default`.

use std::{fs, path::Path, time::Duration};

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use super::Leadership;
use crate::api::MeshConfigSpec;

/// Who writes, unlike whoever writes status.
const FIELD_MANAGER: &str = "weft-control-plane/mesh-config";
/// The name of the one MeshConfig.
const NAME: &str = "default";
/// How long to wait when the API refuses, or does not answer.
const RETRY: Duration = Duration::from_secs(5);

/// Why a file is not the spec of a MeshConfig.
#[derive(Debug, thiserror::Error)]
pub enum MeshConfigError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
    /// It says something else.
    #[error("{0}")]
    Invalid(String),
}

/// The fields that a file names, each checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshConfig(Value);

impl MeshConfig {
    /// Reads the spec of a MeshConfig as YAML. An empty file names no fields.
    pub fn read(path: &Path) -> Result<Self, MeshConfigError> {
        Self::parse(&fs::read_to_string(path)?)
    }

    fn parse(text: &str) -> Result<Self, MeshConfigError> {
        let invalid = |error: &dyn std::fmt::Display| MeshConfigError::Invalid(error.to_string());
        // The typed one tells what is wrong; what is applied are the fields that are named, and not defaults.
        serde_saphyr::from_str::<Option<MeshConfigSpec>>(text).map_err(|error| invalid(&error))?;
        let named: Option<Value> = serde_saphyr::from_str(text).map_err(|error| invalid(&error))?;
        Ok(Self(named.unwrap_or_else(|| json!({}))))
    }

    /// Applies it whenever this replica becomes the leader. Has no end of its own.
    pub async fn keep(self, client: Client, mut leadership: Leadership) {
        loop {
            leadership.acquired().await;
            let mut term = leadership.clone();
            tokio::select! {
                () = self.apply(&client) => leadership.lost().await,
                () = term.lost() => {}
            }
        }
    }

    /// Applies it, until the API has taken it or says that others have set the same fields.
    async fn apply(&self, client: &Client) {
        let kind = GroupVersionKind::gvk("weft.dev", "v1alpha1", "MeshConfig");
        let kind = ApiResource::from_gvk_with_plural(&kind, "meshconfigs");
        let api = Api::<DynamicObject>::all_with(client.clone(), &kind);
        let object = json!({
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": { "name": NAME },
            "spec": self.0,
        });
        let params = PatchParams::apply(FIELD_MANAGER);
        loop {
            match api.patch(NAME, &params, &Patch::Apply(&object)).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    tracing::warn!(
                        reason = %status.message,
                        "--mesh-config: others have set fields of the MeshConfig, which stay as they are"
                    );
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "--mesh-config cannot be applied yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake;
    use std::sync::{Arc, Mutex};

    #[test]
    fn what_a_file_does_not_name_is_not_applied() {
        for (text, spec) in [
            ("", json!({})),
            ("{}\n", json!({})),
            (
                "mtls: {mode: Strict}\n",
                json!({ "mtls": { "mode": "Strict" } }),
            ),
        ] {
            assert_eq!(MeshConfig::parse(text).unwrap(), MeshConfig(spec));
        }
    }

    #[test]
    fn a_mistake_in_a_file_is_named() {
        let error = MeshConfig::parse("mtls: {mod: Strict}\n").unwrap_err();
        assert!(error.to_string().contains("mod"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_applied_until_it_is_taken_and_nothing_is_forced() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let asked = seen.clone();
        let client = fake::client(move |request| {
            let mut asked = asked.lock().unwrap();
            asked.push((request.path, request.query, request.body["spec"].clone()));
            let code = if asked.len() == 1 { 500 } else { 409 };
            let status = json!({ "kind": "Status", "code": code, "message": "refused" });
            async move { (code, status) }
        });
        MeshConfig::parse("mtls: {mode: Strict}")
            .unwrap()
            .apply(&client)
            .await;
        let once = (
            "/apis/weft.dev/v1alpha1/meshconfigs/default".to_owned(),
            "&fieldManager=weft-control-plane%2Fmesh-config".to_owned(),
            json!({ "mtls": { "mode": "Strict" } }),
        );
        assert_eq!(*seen.lock().unwrap(), [once.clone(), once]);
    }
}

//! The cluster that a control plane is part of: how its API is reached, and which replica may write there.
//!
//! Does not own what is read ([`crate::source`]) or written there.

#[cfg(test)]
pub(crate) mod fake;
mod leader;
mod mesh_config;

use std::{path::PathBuf, sync::Arc};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

pub use leader::{Leadership, elect};
pub use mesh_config::{MeshConfig, MeshConfigError};

/// Who writes, as the API server keeps it beside every field.
pub const FIELD_MANAGER: &str = "weft-control-plane";

/// Where the API is, and who this replica is there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A kubeconfig file. `None` for the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of the control plane, where its Secrets and its Lease are.
    pub namespace: Arc<str>,
    /// The name of this replica, unlike that of any other: its pod's.
    pub replica: Arc<str>,
    /// The MeshConfig that the installation brings along.
    pub mesh_config: Option<MeshConfig>,
}

/// The API of the cluster.
#[derive(Clone)]
pub struct Cluster {
    /// Speaks to the API with the rights of this replica.
    pub client: Client,
    /// The namespace of the control plane.
    pub namespace: Arc<str>,
    /// The name of this replica.
    pub replica: Arc<str>,
}

/// Why the API cannot be reached, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig.
    #[error("--kubeconfig {}: {error}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: kube::config::KubeconfigError,
    },
    /// The service account.
    #[error(
        "cannot use the service account of the pod: {0}; outside of a cluster, give --kubeconfig"
    )]
    InCluster(#[from] kube::config::InClusterError),
    /// The client.
    #[error("cannot make a client of the Kubernetes API: {0}")]
    Client(#[from] kube::Error),
}

impl Cluster {
    /// Reads how the API is reached. Nothing is asked of it yet.
    pub async fn connect(settings: Settings) -> Result<Self, ConnectError> {
        let config = match settings.kubeconfig {
            Some(path) => from_file(&path)
                .await
                .map_err(|error| ConnectError::Kubeconfig { path, error })?,
            None => Config::incluster()?,
        };
        Ok(Self {
            client: Client::try_from(config)?,
            namespace: settings.namespace,
            replica: settings.replica,
        })
    }
}

async fn from_file(path: &PathBuf) -> Result<Config, kube::config::KubeconfigError> {
    let file = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .field("replica", &self.replica)
            .finish_non_exhaustive()
    }
}

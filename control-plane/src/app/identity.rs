//! Where the root of the mesh and the proofs of callers are kept: decided by the source.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::{Config, RunError};
use crate::{
    ca::{
        self, Ca,
        secret::{self, Keeper},
        token::JoinKey,
    },
    caller::{Authenticator, Reviewer, Tokens},
    kubernetes::Cluster,
    monitoring::metrics::{CaMetrics, ReviewMetrics},
    world::Store,
};

/// Who signs, and who is believed.
pub(super) struct Identity {
    pub(super) ca: Arc<Ca>,
    pub(super) authenticator: Authenticator,
    /// Keeps the CA in line with its Secret, where it has one.
    pub(super) keeper: Option<Keeper>,
}

impl Identity {
    /// In a cluster: the root from a Secret, callers by the API. Else both from the CA's directory.
    pub(super) async fn open(
        config: &Config,
        cluster: Option<&Cluster>,
        registry: &mut Registry,
    ) -> Result<Self, RunError> {
        let leaves = ca::Leaves {
            trust_domain: config.trust_domain.clone(),
            max_ttl: config.max_leaf_ttl,
        };
        let (ca, tokens, keeper) = match cluster {
            Some(cluster) => {
                let settings = secret::Settings {
                    leaves,
                    supplied: config.ca_secret.clone(),
                    overlap: config.root_overlap.unwrap_or(config.max_leaf_ttl),
                };
                let (ca, keeper) =
                    Keeper::open(cluster, settings, CaMetrics::register(registry)).await?;
                let metrics = ReviewMetrics::register(registry);
                let reviewer = Reviewer::new(cluster.client.clone(), metrics);
                (ca, Tokens::ServiceAccount(Arc::new(reviewer)), Some(keeper))
            }
            None => {
                let directory = config.ca_dir.clone();
                let ca = Ca::open(ca::Settings { directory, leaves })?;
                let key = JoinKey::open(&config.ca_dir)?;
                (Arc::new(ca), Tokens::Join(key), None)
            }
        };
        Ok(Self {
            ca,
            authenticator: Authenticator::new(tokens, config.trust_domain.clone()),
            keeper,
        })
    }
}

/// Gives the roots of the CA to the world, whenever they change. Never ends.
pub(super) async fn tell_roots(ca: Arc<Ca>, store: Arc<Store>) {
    let mut authorities = ca.follow();
    loop {
        let bundle = authorities.borrow_and_update().bundle();
        store.set_roots(bundle.into());
        if authorities.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

//! Which of several replicas writes: status, webhook bundle, trust bundles, a rotated root.

use tokio::sync::watch;

/// Whether this replica is the one that writes. Clones tell the same.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<bool>);

impl Leadership {
    /// Whether this replica may write now.
    pub fn is_held(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until this replica may write. Never ends for one whose election has ended.
    pub async fn acquired(&mut self) {
        self.becomes(true).await;
    }

    /// Waits until this replica may no longer write: what it was about to write is another's to decide.
    pub async fn lost(&mut self) {
        self.becomes(false).await;
    }

    async fn becomes(&mut self, held: bool) {
        if self.0.wait_for(|now| *now == held).await.is_err() {
            std::future::pending().await
        }
    }
}

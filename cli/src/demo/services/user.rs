//! `user`: people over HTTP and JSON.

use axum::{Json, Router, extract::Path, routing::get};
use serde::{Deserialize, Serialize};

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) id: u64,
    pub(super) name: String,
}

pub(super) fn router() -> Router {
    Router::new().route("/users/{id}", get(get_user))
}

async fn get_user(Path(id): Path<u64>) -> Json<User> {
    const NAMES: [&str; 4] = ["Ada", "Grace", "Edsger", "Barbara"];
    let name = NAMES[(id % NAMES.len() as u64) as usize].to_owned();
    Json(User { id, name })
}

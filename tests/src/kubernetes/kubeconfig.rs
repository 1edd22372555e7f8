//! How clients are told where the API is.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use std::net::SocketAddr;

/// A kubeconfig, as JSON, which is YAML too.
pub fn kubeconfig(address: SocketAddr, root: &str, token: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "test",
            "cluster": {
                "server": format!("https://{address}"),
                "certificate-authority-data": STANDARD.encode(root),
            },
        }],
        "users": [{ "name": "test", "user": { "token": token } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        "current-context": "test",
    })
    .to_string()
}

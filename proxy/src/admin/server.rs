//! The listeners of the endpoints.

use super::probes::ReachedAt;
use axum::Router;
use std::{io, net::SocketAddr};
use tokio::net::TcpListener;

/// Why a listener of the endpoints is not there.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {address}: cannot listen: {source}; free the port or choose another with {flag}")]
pub struct BindError {
    flag: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Binds the listener that a flag names.
pub async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError {
            flag,
            address,
            source,
        })
}

/// Serves endpoints for as long as the runtime runs.
pub async fn serve(listener: TcpListener, endpoints: Router) {
    let endpoints = endpoints.into_make_service_with_connect_info::<ReachedAt>();
    if let Err(error) = axum::serve(listener, endpoints).await {
        tracing::error!(%error, "admin endpoints ended");
    }
}

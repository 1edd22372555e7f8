//! Probes of the application, for the kubelet: it has no certificate of the mesh, and asks the health port,
//! which is not intercepted; the proxy asks the application in its stead, as the kubelet would have.
//!
//! The application is asked at the address at which the proxy was, past interception as everything of the
//! proxy's user. What is asked comes with the start ([`AppProbes`]): a caller chooses among it, no more.

mod ask;
mod definition;

pub use definition::{AppProbes, Ask, InvalidProbes, Probe};

use axum::{
    Router,
    extract::{ConnectInfo, Path, State, connect_info::Connected},
    http::{HeaderMap, StatusCode, header::USER_AGENT},
    response::{IntoResponse, Response},
    routing::get,
    serve::IncomingStream,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};

/// Probes on their way at a time, of all containers. A kubelet has one each.
const AT_A_TIME: usize = 32;

/// Where a caller reached us.
#[derive(Debug, Clone, Copy)]
pub struct ReachedAt(pub IpAddr);

impl Connected<IncomingStream<'_, TcpListener>> for ReachedAt {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let local = stream.io().local_addr();
        Self(local.map_or(Ipv4Addr::LOCALHOST.into(), |local| {
            local.ip().to_canonical()
        }))
    }
}

#[derive(Debug)]
struct Prober {
    probes: AppProbes,
    permits: Semaphore,
}

/// `/app-health/<container>/<probe>`; nothing where the application has no probes.
pub fn router(probes: AppProbes) -> Router {
    if probes.is_empty() {
        return Router::new();
    }
    let prober = Prober {
        probes,
        permits: Semaphore::new(AT_A_TIME),
    };
    Router::new()
        .route("/app-health/{container}/{probe}", get(probe))
        .with_state(Arc::new(prober))
}

async fn probe(
    State(prober): State<Arc<Prober>>,
    Path((container, name)): Path<(String, String)>,
    ConnectInfo(ReachedAt(address)): ConnectInfo<ReachedAt>,
    headers: HeaderMap,
) -> Response {
    let Some(probe) = prober.probes.find(&container, &name) else {
        let unknown = format!("container {container:?} has no probe {name:?} here\n");
        return (StatusCode::NOT_FOUND, unknown).into_response();
    };
    let Ok(_permit) = prober.permits.try_acquire() else {
        let busy = "too many probes at a time\n";
        return (StatusCode::SERVICE_UNAVAILABLE, busy).into_response();
    };
    let asked = ask::ask(&probe.ask, address, headers.get(USER_AGENT));
    match timeout(probe.timeout, asked).await {
        Ok(Ok(answer)) => (answer.status, answer.body).into_response(),
        Ok(Err(error)) => {
            tracing::debug!(container, probe = name, %error, "the application does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
        }
        Err(_) => {
            let late = format!("no answer within {:?}\n", probe.timeout);
            (StatusCode::GATEWAY_TIMEOUT, late).into_response()
        }
    }
}

#[cfg(test)]
mod tests;

//! The demo's applications: servers that know nothing of the mesh.
//!
//! `order` calls `user` over HTTP and `product` over gRPC. Each finds the others as applications in Kubernetes do, by
//! `USER_SERVICE_HOST` and `USER_SERVICE_PORT`.

mod caller;
mod catalog;
mod order;
mod product;
mod user;

use std::{io, net::SocketAddr};

use axum::Router;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

pub(crate) use caller::Caller;
pub(super) use caller::PROXY_VARIABLE;

/// Which application to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(crate) enum Name {
    /// People, over HTTP and JSON.
    User,
    /// A catalog, over gRPC.
    Product,
    /// Orders, over HTTP and JSON.
    Order,
}

/// The flags of the hidden `weft demo-service`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which application to be.
    name: Name,
    /// The address to listen on.
    #[arg(long)]
    listen: SocketAddr,
}

/// Serves until SIGTERM, and finishes what is in flight.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    // Before the listener: who is ready can also be asked to stop.
    let mut terminate = signal(SignalKind::terminate())?;
    let router = match args.name {
        Name::User => user::router(),
        Name::Product => product::router(),
        Name::Order => order::router(order::Callers::from_environment()?),
    };
    serve(router, args.listen, async move {
        terminate.recv().await;
    })
    .await?;
    Ok(())
}

async fn serve(
    router: Router,
    listen: SocketAddr,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    use axum::serve::ListenerExt;
    let listener = TcpListener::bind(listen).await?.tap_io(|connection| {
        // A small response must not wait for the acknowledgement of the one before.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::warn!(%error, "nodelay is refused");
        }
    });
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
}

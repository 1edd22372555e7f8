//! The gRPC application: a process of the harness that answers every call with the same message, and trailers.

use crate::ground::{is_listening, until_running};
use anyhow::Context;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{convert::Infallible, env, net::SocketAddr};
use tokio::net::TcpListener;
use weft_cli::sandbox::{Child, Command};
use weft_tests::apps::grpc::frame;

/// The length of a message, both ways.
pub(super) const MESSAGE: usize = 100;

/// The answer to every call, in its frame.
pub(super) fn answer() -> Bytes {
    frame(&[b'm'; MESSAGE])
}

/// Starts the application as a process of its own.
pub(super) fn start(address: SocketAddr) -> anyhow::Result<Child> {
    let own = env::current_exe().context("cannot find the running benchmark")?;
    let child = Command::new(own)
        .name("the gRPC application")
        .arg("--serve-grpc")
        .arg(address.to_string())
        .spawn()?;
    until_running(&child, "listens", || is_listening(address))?;
    Ok(child)
}

/// Serves calls until the process is killed.
pub(crate) fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        let answer = answer();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = answer.clone();
            let service = service_fn(move |request| call(request, answer.clone()));
            tokio::spawn(async move {
                let mut server = http2::Builder::new(TokioExecutor::new());
                server.max_concurrent_streams(1000);
                // A connection that breaks is noticed by the load.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

type Answer =
    Response<StreamBody<stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>>>;

async fn call(request: Request<Incoming>, answer: Bytes) -> Result<Answer, hyper::Error> {
    request.into_body().collect().await?;
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let frames = [Ok(Frame::data(answer)), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(stream::iter(frames)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

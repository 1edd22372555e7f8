//! An HTTP application, for HTTP/1.1 and HTTP/2 with prior knowledge.
//!
//! | path | answer |
//! |---|---|
//! | `/whoami` | JSON: the name of the server, the version, and the headers of the request |
//! | `/echo` | the body of the request with its trailers, as it comes |
//! | `/count` | the number of bytes of the body, as text |
//! | `/bytes/N` | N zero bytes |
//! | `/slow/N` | `done`, N milliseconds later |
//! | `/status/N` | that status, with the body `status` |

use super::App;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Map, Value, json};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use weft_cli::sandbox::Pod;

type Body = BoxBody<Bytes, hyper::Error>;

const CHUNK: usize = 64 * 1024;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// Starts the application under a name that its answers tell.
pub fn start(pod: &Pod, port: u16, name: &str) -> anyhow::Result<App> {
    let name: Arc<str> = name.into();
    App::start(pod, port, move |listener| serve(listener, name))
}

async fn serve(listener: TcpListener, name: Arc<str>) {
    while let Ok((stream, _)) = listener.accept().await {
        let name = Arc::clone(&name);
        let service = hyper::service::service_fn(move |request| answer(Arc::clone(&name), request));
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // A connection that the other side breaks is for the scenario to notice, not for the application.
            let _ = server
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    name: Arc<str>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let argument = path.rsplit('/').next().and_then(|text| text.parse().ok());
    let body = match (path.split('/').nth(1), argument) {
        (Some("whoami"), _) => full(whoami(&name, &request).to_string()),
        (Some("echo"), _) => request.into_body().boxed(),
        (Some("count"), _) => {
            let mut body = request.into_body();
            let mut count = 0;
            while let Some(frame) = body.frame().await {
                count += frame?.data_ref().map_or(0, Bytes::len);
            }
            full(count.to_string())
        }
        (Some("bytes"), Some(length)) => zeros(length),
        (Some("slow"), Some(millis)) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            full("done")
        }
        (Some("status"), Some(status)) => {
            let mut response = Response::new(full("status"));
            *response.status_mut() =
                StatusCode::from_u16(status as u16).unwrap_or(StatusCode::NOT_FOUND);
            return Ok(response);
        }
        _ => {
            let mut response = Response::new(full("no such path"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    Ok(Response::new(body))
}

fn whoami(name: &str, request: &Request<Incoming>) -> Value {
    let mut headers = Map::new();
    for (key, value) in request.headers() {
        headers.insert(
            key.to_string(),
            Value::from(String::from_utf8_lossy(value.as_bytes())),
        );
    }
    json!({
        "name": name,
        "version": format!("{:?}", request.version()),
        "method": request.method().as_str(),
        "uri": request.uri().to_string(),
        "headers": headers,
    })
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}

fn zeros(length: u64) -> Body {
    let whole = usize::try_from(length).unwrap_or(usize::MAX);
    let sizes = std::iter::repeat_n(CHUNK, whole / CHUNK).chain([whole % CHUNK]);
    let frames = stream::iter(sizes.filter(|&size| size > 0))
        .map(|size| Ok(Frame::data(Bytes::from_static(&ZEROS[..size]))));
    BodyExt::boxed(StreamBody::new(frames))
}

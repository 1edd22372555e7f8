//! A request becomes an answer: who asks, whether they may, and who answers.

use super::{
    authentication::User,
    authorization::Attributes,
    discovery, read,
    request::{Call, Query, Target},
    reviews,
    selector::Fields,
    state::State,
    status::Status,
    watch, write,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use std::{io, pin::Pin, sync::Arc};

/// The body of every response.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The lines of a watch.
type Lines = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What a request comes to.
enum Answer {
    Json(u16, Bytes),
    Text(&'static str),
    Written(write::Written),
    Watch(Lines),
}

/// Answers a request whose body was read.
pub(super) async fn answer(state: &Arc<State>, request: Request<Bytes>) -> Response<Body> {
    match decide(state, request).await {
        Ok(Answer::Json(code, body)) => json(code, body, &[]),
        Ok(Answer::Text(text)) => Response::new(whole(Bytes::from(text))),
        Ok(Answer::Written(written)) => json(written.code, written.body, &written.warnings),
        Ok(Answer::Watch(lines)) => {
            let frames = lines.map(|line| line.map(Frame::data));
            let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
            let kind = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(status) => refuse(&status),
    }
}

/// The response of a refusal.
pub(super) fn refuse(status: &Status) -> Response<Body> {
    json(status.code, Bytes::from(status.object().to_string()), &[])
}

async fn decide(state: &Arc<State>, request: Request<Bytes>) -> Result<Answer, Status> {
    let path = request.uri().path();
    if matches!(path, "/healthz" | "/livez" | "/readyz") {
        return Ok(Answer::Text("ok"));
    }
    let user = authenticate(state, &request)?;
    if let Some(found) = discovery::answer(&state.data().registry, path) {
        return Ok(Answer::Json(200, Bytes::from(found.to_string())));
    }
    let target = Target::parse(path).ok_or_else(Status::no_such_path)?;
    let resource = {
        let data = state.data();
        let found = data
            .registry
            .find(&target.group, &target.version, &target.plural);
        Arc::clone(found.ok_or_else(Status::no_such_path)?)
    };
    if !resource.is_namespaced && !target.namespace.is_empty() {
        return Err(Status::no_such_path());
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let verb = verb(request.method(), &target, &query)?;
    state.requests.add(&user.name, verb, &target.resource());
    if state.faults.refuses(verb, &target.plural) {
        return Err(Status::unavailable());
    }
    let text = |name: header::HeaderName| {
        let value = request.headers().get(name);
        let value = value.and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let call = Call {
        content_type: text(header::CONTENT_TYPE),
        accept: text(header::ACCEPT),
        user_agent: text(header::USER_AGENT),
        body: request.body().clone(),
        user,
        target,
        resource,
        query,
    };
    authorize(state, &call, verb).inspect_err(|refusal| state.requests.forbid(&refusal.message))?;
    perform(state, &call, verb).await
}

fn authenticate(state: &State, request: &Request<Bytes>) -> Result<User, Status> {
    let header = request.headers().get(header::AUTHORIZATION);
    let Some(value) = header.and_then(|value| value.to_str().ok()) else {
        return Ok(User::anonymous());
    };
    let token = value
        .strip_prefix("Bearer ")
        .ok_or_else(Status::unauthorized)?;
    let user = state.data().tokens.user(token, &[]);
    user.map(|(user, _)| user)
        .map_err(|_| Status::unauthorized())
}

/// The verb of a request, as rights name it.
fn verb(method: &Method, target: &Target, query: &Query) -> Result<&'static str, Status> {
    let is_one = !target.name.is_empty();
    let verb = match (method.as_str(), is_one) {
        ("GET", true) => "get",
        ("GET", false) if query.is("watch") => "watch",
        ("GET", false) => "list",
        ("POST", false) => "create",
        ("POST", true) if !target.subresource.is_empty() => "create",
        ("PUT", true) => "update",
        ("PATCH", true) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => return Err(Status::method_not_allowed()),
    };
    Ok(verb)
}

fn authorize(state: &State, call: &Call, verb: &str) -> Result<(), Status> {
    let resource = call.target.resource();
    // A list of one name is asked with the right to that name.
    let selected = Fields::parse(call.query.get("fieldSelector"), &call.resource.kind)?;
    let name = match verb {
        "list" | "watch" => selected.name().unwrap_or_default(),
        _ => &call.target.name,
    };
    let is_namespace = call.resource.kind == "Namespace" && call.target.group.is_empty();
    let namespace = if is_namespace {
        &call.target.name
    } else {
        &call.target.namespace
    };
    let attributes = |verb| Attributes {
        verb,
        group: &call.target.group,
        resource: &resource,
        namespace,
        name,
    };
    state.authorize(&call.user, attributes(verb))?;
    if verb == "patch" && write::creates(state, call) {
        state.authorize(&call.user, attributes("create"))?;
    }
    Ok(())
}

async fn perform(state: &Arc<State>, call: &Call, verb: &str) -> Result<Answer, Status> {
    if !call.resource.is_stored {
        let answer = reviews::answer(state, call)?;
        return Ok(Answer::Json(201, Bytes::from(answer.to_string())));
    }
    match (
        call.target.plural.as_str(),
        call.target.subresource.as_str(),
    ) {
        (_, "") => {}
        ("serviceaccounts", "token") => {
            let answer = reviews::token(state, call)?;
            return Ok(Answer::Json(201, Bytes::from(answer.to_string())));
        }
        ("pods", "eviction") => {
            return Ok(Answer::Json(201, write::delete(state, call).await?));
        }
        (_, "status") if call.resource.has_status && verb != "create" && verb != "delete" => {}
        _ => return Err(Status::no_such_path()),
    }
    match verb {
        "get" => Ok(Answer::Json(200, read::get(state, call)?)),
        "list" => {
            let delay = state.faults.list_delay();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok(Answer::Json(200, read::list(state, call)?))
        }
        "watch" => Ok(Answer::Watch(Box::pin(watch::stream(state, call)?))),
        "create" => {
            if call.resource.is_namespaced && call.target.namespace.is_empty() {
                return Err(Status::method_not_allowed());
            }
            write::create(state, call).await.map(Answer::Written)
        }
        "update" => write::update(state, call).await.map(Answer::Written),
        "patch" => write::patch(state, call).await.map(Answer::Written),
        "delete" => Ok(Answer::Json(200, write::delete(state, call).await?)),
        _ => Ok(Answer::Json(200, write::delete_all(state, call)?)),
    }
}

fn json(code: u16, body: Bytes, warnings: &[String]) -> Response<Body> {
    let mut response = Response::new(whole(body));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    for warning in warnings {
        let quoted = format!("299 - {}", serde_json::Value::from(warning.as_str()));
        if let Ok(value) = header::HeaderValue::from_str(&quoted) {
            headers.append(header::WARNING, value);
        }
    }
    response
}

fn whole(body: Bytes) -> Body {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

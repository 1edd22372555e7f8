//! What is answered and not kept: whose a token is, and who may do what.

use super::{
    authentication::{Claims, User},
    authorization::Attributes,
    request::Call,
    state::State,
    status::Status,
};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// How long a requested token is good for unless it says otherwise.
const LIFETIME: u64 = 3600;

/// Answers a review.
pub(super) fn answer(state: &State, call: &Call) -> Result<Value, Status> {
    let mut review = call.json()?;
    review["apiVersion"] = json!(call.resource.api_version());
    review["kind"] = json!(call.resource.kind);
    review["status"] = match call.resource.kind.as_str() {
        "TokenReview" => token_review(state, &review["spec"]),
        "SelfSubjectAccessReview" => access_review(state, &call.user, &review["spec"]),
        _ => access_review(state, &subject(&review["spec"]), &review["spec"]),
    };
    Ok(review)
}

fn texts(value: &Value) -> Vec<String> {
    let values = value.as_array().into_iter().flatten();
    values
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn token_review(state: &State, spec: &Value) -> Value {
    let token = spec["token"].as_str().unwrap_or_default();
    let data = state.data();
    match data.tokens.user(token, &texts(&spec["audiences"])) {
        Ok((user, audiences)) => {
            if let Some(error) = data
                .tokens
                .claims(token)
                .and_then(|claims| orphaned(&data.store, claims))
            {
                return json!({ "authenticated": false, "user": {}, "error": error });
            }
            json!({ "authenticated": true, "user": user.info(), "audiences": audiences })
        }
        Err(error) => json!({ "authenticated": false, "user": {}, "error": error }),
    }
}

/// A token is good while the pod that it is bound to is there.
fn orphaned(store: &super::store::Store, claims: &Claims) -> Option<String> {
    let (name, uid) = claims.pod.as_ref()?;
    let pods = (String::new(), "pods".to_owned());
    let pod = store.get(&pods, &(claims.namespace.clone(), name.clone()));
    let is_there = pod.is_some_and(|pod| pod.value["metadata"]["uid"] == *uid);
    (!is_there).then(|| format!("[invalid bearer token, pod \"{name}\" with uid {uid} is gone]"))
}

fn subject(spec: &Value) -> User {
    User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        ..User::anonymous()
    }
}

fn access_review(state: &State, user: &User, spec: &Value) -> Value {
    let asked = &spec["resourceAttributes"];
    let text = |field: &str| asked[field].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        subresource => format!("{}/{subresource}", text("resource")),
    };
    let allowed = state.authorize(
        user,
        Attributes {
            verb: text("verb"),
            group: text("group"),
            resource: &resource,
            namespace: text("namespace"),
            name: text("name"),
        },
    );
    json!({ "allowed": allowed.is_ok() })
}

/// Mints a token for the service account of a path: a TokenRequest.
pub(super) fn token(state: &State, call: &Call) -> Result<Value, Status> {
    let mut request = call.json()?;
    let spec = &request["spec"];
    let seconds = spec["expirationSeconds"].as_u64().unwrap_or(LIFETIME);
    let expires = SystemTime::now() + Duration::from_secs(seconds);
    let mut data = state.data();
    let name = (call.target.namespace.clone(), call.target.name.clone());
    let account = data.store.get(&call.target.table(), &name);
    let account = account.ok_or_else(|| Status::not_found("serviceaccounts", &name.1))?;
    let service_account_uid = account.value["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let bound = &spec["boundObjectRef"];
    let text = |field: &str| bound[field].as_str().unwrap_or_default().to_owned();
    let claims = Claims {
        namespace: name.0,
        service_account: name.1,
        service_account_uid,
        pod: (bound["kind"] == "Pod").then(|| (text("name"), text("uid"))),
        audiences: texts(&spec["audiences"]),
        expires,
    };
    let token = data.tokens.mint(claims);
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["kind"] = json!("TokenRequest");
    request["status"] = json!({
        "token": token,
        "expirationTimestamp": humantime::format_rfc3339_seconds(expires).to_string(),
    });
    Ok(request)
}

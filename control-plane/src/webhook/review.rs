//! `AdmissionReview`, the API server's question and our answer (`admission.k8s.io/v1`).

use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inject::{self, Invalid, Left, Outcome, Place, Settings};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Why a question is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoQuestion {
    /// It is not JSON, or not of the form.
    #[error("not an AdmissionReview: {0}")]
    Form(#[from] serde_json::Error),
    /// It is something else, or of another version.
    #[error("{api_version} {kind} is not {API_VERSION} {KIND}")]
    Kind {
        /// What it says it is.
        api_version: String,
        /// See `api_version`.
        kind: String,
    },
    /// It is an answer.
    #[error("the AdmissionReview has no request")]
    NoRequest,
    /// The patch cannot be written.
    #[error("the patch cannot be written: {0}")]
    Patch(serde_json::Error),
}

/// What is answered, and what that says.
#[derive(Debug)]
pub(super) struct Answer {
    /// Whom it is about: `demo/user-5d8f6c7b9-...`.
    pub(super) pod: String,
    pub(super) verdict: Verdict,
    pub(super) review: Review<Response>,
}

/// What became of an object.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Injected,
    Left(Left),
    Refused(Invalid),
    /// It is no pod, or not a new one: whoever wrote the webhook's rules wanted more than we do.
    NoPod,
}

/// The envelope of both.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review<T> {
    api_version: &'static str,
    kind: &'static str,
    response: T,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Debug, Deserialize)]
struct Request {
    uid: String,
    kind: Kind,
    #[serde(default)]
    namespace: String,
    operation: String,
    #[serde(default)]
    object: Value,
}

#[derive(Debug, Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
}

/// The answer itself.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
}

/// The part of `metav1.Status` that reaches whoever created the pod.
#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

/// Answers a question as it came.
pub(super) fn answer(
    question: &[u8],
    native_sidecars: bool,
    settings: &Settings,
) -> Result<Answer, NoQuestion> {
    let question: Question = serde_json::from_slice(question)?;
    if (&*question.api_version, &*question.kind) != (API_VERSION, KIND) {
        return Err(NoQuestion::Kind {
            api_version: question.api_version,
            kind: question.kind,
        });
    }
    let request = question.request.ok_or(NoQuestion::NoRequest)?;
    let place = Place {
        namespace: &request.namespace,
        workload: None,
        native_sidecars,
    };
    let mut response = Response {
        uid: request.uid.clone(),
        allowed: true,
        ..Response::default()
    };
    let verdict = if !request.is_new_pod() {
        Verdict::NoPod
    } else {
        match inject::inject(&request.object, &place, settings) {
            Ok(Outcome::Patched(patched)) => {
                let patch = json_patch::diff(&request.object, &patched);
                let patch = serde_json::to_vec(&patch).map_err(NoQuestion::Patch)?;
                response.patch_type = Some("JSONPatch");
                response.patch = Some(ByteString(patch));
                Verdict::Injected
            }
            Ok(Outcome::Left(left)) => Verdict::Left(left),
            Err(invalid) => {
                response.allowed = false;
                response.status = Some(Status {
                    code: 422,
                    reason: "Invalid",
                    message: invalid.to_string(),
                });
                Verdict::Refused(invalid)
            }
        }
    };
    Ok(Answer {
        pod: request.name(),
        verdict,
        review: Review {
            api_version: API_VERSION,
            kind: KIND,
            response,
        },
    })
}

impl Request {
    fn is_new_pod(&self) -> bool {
        let Kind {
            group,
            version,
            kind,
        } = &self.kind;
        self.operation == "CREATE" && (&**group, &**version, &**kind) == ("", "v1", "Pod")
    }

    /// The name, or its beginning where the API server has yet to make up the rest.
    fn name(&self) -> String {
        let field = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_str);
        match (field("/metadata/name"), field("/metadata/generateName")) {
            (Some(name), _) => format!("{}/{name}", self.namespace),
            (None, Some(start)) => format!("{}/{start}...", self.namespace),
            (None, None) => format!("{}/", self.namespace),
        }
    }
}

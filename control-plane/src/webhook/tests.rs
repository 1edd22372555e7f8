use super::*;
use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::inject::Settings;

async fn post(body: String) -> (StatusCode, String) {
    let webhook = Webhook {
        settings: Arc::new(SettingsFile::fixed(Settings::default())),
        native_sidecars: NativeSidecars::settled(true),
        metrics: InjectionMetrics::default(),
    };
    let request = Request::post("/inject?timeout=10s").body(Body::from(body));
    let response = webhook.router().oneshot(request.unwrap()).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
}

async fn ask(kind: Value, operation: &str, object: &Value) -> Value {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": kind,
            "namespace": "demo",
            "operation": operation,
            "object": object,
        },
    });
    let (status, body) = post(review.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn pod() -> Value {
    json!({"group": "", "version": "v1", "kind": "Pod"})
}

#[tokio::test]
async fn a_pod_comes_back_with_a_patch_that_gives_it_a_sidecar() {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "user-"},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    });
    let answer = ask(pod(), "CREATE", &object).await;
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    let response = &answer["response"];
    assert_eq!(
        (
            &response["uid"],
            &response["allowed"],
            &response["patchType"]
        ),
        (&json!("u-1"), &json!(true), &json!("JSONPatch"))
    );
    let patch: k8s_openapi::ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    assert_eq!(object["spec"]["initContainers"][1]["name"], "weft-proxy");

    let again = ask(pod(), "CREATE", &object).await;
    assert_eq!(again["response"], json!({"uid": "u-1", "allowed": true}));
}

#[tokio::test]
async fn what_is_no_new_pod_is_allowed_as_it_is() {
    let allowed = json!({"uid": "u-1", "allowed": true});
    let job = json!({"group": "batch", "version": "v1", "kind": "Job"});
    assert_eq!(ask(job, "CREATE", &json!({})).await["response"], allowed);
    let answer = ask(pod(), "UPDATE", &json!({"spec": {}})).await;
    assert_eq!(answer["response"], allowed);
    let answer = ask(pod(), "DELETE", &Value::Null).await;
    assert_eq!(answer["response"], allowed);
    let other = json!({"spec": {"hostNetwork": true, "containers": [{"name": "app"}]}});
    assert_eq!(ask(pod(), "CREATE", &other).await["response"], allowed);
}

#[tokio::test]
async fn a_pod_that_cannot_work_is_denied_with_the_field() {
    let containers = json!([{"name": "app", "ports": [{"containerPort": 15001}]}]);
    let answer = ask(
        pod(),
        "CREATE",
        &json!({"spec": {"containers": containers}}),
    )
    .await;
    assert_eq!(
        answer["response"],
        json!({
            "uid": "u-1",
            "allowed": false,
            "status": {
                "code": 422,
                "reason": "Invalid",
                "message": "spec.containers[0].ports[0].containerPort: \
                            15001 is the outbound port of the proxy; choose another",
            },
        })
    );
}

#[tokio::test]
async fn what_is_no_review_is_a_bad_request() {
    for (body, word) in [
        ("".to_owned(), "EOF"),
        ("{}".to_owned(), "AdmissionReview"),
        (
            json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"})
                .to_string(),
            "v1beta1",
        ),
        (
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}).to_string(),
            "no request",
        ),
    ] {
        let (status, answer) = post(body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer.contains(word), "{answer}");
    }
}

#[tokio::test]
async fn settings_follow_their_file_and_the_last_good_ones_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let missing = SettingsFile::open(path.clone()).unwrap_err().to_string();
    assert!(missing.contains("--injector-config"), "{missing}");

    std::fs::write(&path, "logLevel: debug").unwrap();
    let file = SettingsFile::open(path.clone()).unwrap();
    assert_eq!(file.current().log_level, "debug");
    std::fs::write(&path, "logLevel: [").unwrap();
    file.look().await;
    assert_eq!(file.current().log_level, "debug");
    std::fs::remove_file(&path).unwrap();
    file.look().await;
    assert_eq!(file.current().log_level, "debug");
    std::fs::write(&path, "logLevel: warn").unwrap();
    file.look().await;
    assert_eq!(file.current().log_level, "warn");

    std::fs::write(&path, "loglevel: warn").unwrap();
    let invalid = SettingsFile::open(path).unwrap_err().to_string();
    assert!(invalid.contains("loglevel"), "{invalid}");
}

/// As the API server does: over HTTP/1.1, with the roots of the webhook's configuration, by the Service's name.
#[tokio::test]
async fn the_api_server_knows_the_webhook_by_its_roots_and_name() {
    use crate::{
        ca::{Ca, Leaves, Serving, Settings},
        serve::{Transport, serve_http},
    };
    use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::open(Settings {
        directory: directory.path().to_owned(),
        leaves: Leaves {
            trust_domain: "cluster.local".into(),
            max_ttl: std::time::Duration::from_secs(3600),
        },
    });
    let ca = Arc::new(ca.unwrap());
    let names = names("weft-system", "cluster.local");
    let serving = Arc::new(Serving::to_api_server(ca.clone(), names).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let router = Router::new().route("/livez", get(async || "live\n"));
    let transport = Transport::Tls(serving);
    let server = tokio::spawn(serve_http(listener, transport, router, shutdown.clone()));

    let mut roots = rustls::RootCertStore::empty();
    let bundle = ca.bundle();
    let certificates = CertificateDer::pem_slice_iter(bundle.as_bytes());
    roots.add_parsable_certificates(certificates.map(Result::unwrap));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("weft-control-plane.weft-system.svc").unwrap();
    let mut tls = connector.connect(name, tcp).await.unwrap();
    let question = "GET /livez HTTP/1.1\r\nhost: weft\r\nconnection: close\r\n\r\n";
    tls.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("live\n"), "{answer}");

    shutdown.cancel();
    server.await.unwrap().unwrap();
}

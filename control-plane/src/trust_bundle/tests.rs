use serde_json::json;

use super::*;
use crate::kubernetes::fake;

#[tokio::test]
async fn a_copy_is_applied_under_our_name_and_by_force() {
    let client = fake::client(|request| {
        assert_eq!(request.method, http::Method::PATCH);
        assert_eq!(
            request.path,
            "/api/v1/namespaces/demo/configmaps/weft-ca-root-cert"
        );
        assert_eq!(request.query, "&force=true&fieldManager=weft-control-plane");
        let copy = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "weft-ca-root-cert",
                "namespace": "demo",
                "labels": {"weft.dev/trust-bundle": "true"},
            },
            "data": {"root-cert.pem": "roots"},
        });
        assert_eq!(request.body, copy);
        async move { (200, copy) }
    });
    assert!(write(client, "demo", "roots").await.is_ok());
}

#[tokio::test]
async fn a_namespace_that_is_gone_or_going_is_no_failure() {
    let failure = |code: u16, causes: serde_json::Value| {
        fake::client(move |_| {
            let status = json!({
                "kind": "Status", "status": "Failure", "code": code, "message": "",
                "reason": "", "details": {"causes": causes},
            });
            async move { (code, status) }
        })
    };
    let terminating = json!([{"reason": "NamespaceTerminating", "message": "", "field": ""}]);
    for (code, causes) in [(404, json!([])), (403, terminating)] {
        let written = write(failure(code, causes), "demo", "roots").await;
        assert!(matches!(written, Err(WriteError::Gone)), "{code}");
    }
    let written = write(failure(403, json!([])), "demo", "roots").await;
    assert!(matches!(written, Err(WriteError::Failed(_))));
}

//! Who calls: the administrator of the stand-in, and service accounts by the tokens that it minted.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The issuer of tokens.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The audience of tokens for the API itself.
pub const API_AUDIENCE: &str = ISSUER;
/// The group that may do everything.
const ADMINISTRATORS: &str = "system:masters";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// `system:serviceaccount:<namespace>:<name>`.
    pub name: String,
    /// The uid of the service account.
    pub uid: String,
    /// What groups the user is of.
    pub groups: Vec<String>,
    /// What else is known: the pod of a bound token.
    pub extra: Vec<(String, String)>,
}

impl User {
    /// Who may do everything.
    pub fn admin() -> Self {
        Self {
            name: "kubernetes-admin".to_owned(),
            uid: String::new(),
            groups: vec![ADMINISTRATORS.to_owned(), "system:authenticated".to_owned()],
            extra: Vec::new(),
        }
    }

    /// Whoever brings nothing.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".to_owned()],
            extra: Vec::new(),
        }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: String::new(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            extra: Vec::new(),
        }
    }

    /// Whether the user may do everything.
    pub fn is_admin(&self) -> bool {
        self.groups.iter().any(|group| group == ADMINISTRATORS)
    }

    /// The `userInfo` of reviews.
    pub fn info(&self) -> Value {
        let extra = self.extra.iter();
        let extra: serde_json::Map<String, Value> = extra
            .map(|(key, value)| (key.clone(), json!([value])))
            .collect();
        let mut info = json!({ "username": self.name, "groups": self.groups });
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !extra.is_empty() {
            info["extra"] = Value::Object(extra);
        }
        info
    }
}

/// What a token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The namespace of the service account.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// Its uid.
    pub service_account_uid: String,
    /// Name and uid of the pod that the token is bound to.
    pub pod: Option<(String, String)>,
    /// Whom the token is for; empty for the API itself.
    pub audiences: Vec<String>,
    /// When it ends to be good.
    pub expires: SystemTime,
}

/// The tokens that are known.
#[derive(Debug)]
pub struct Tokens {
    admin: String,
    minted: HashMap<String, Claims>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            admin: random(24),
            minted: HashMap::new(),
        }
    }
}

impl Tokens {
    /// The token of the administrator.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Makes a token that looks like those of Kubernetes: a JWT, though nobody else could verify its signature.
    pub fn mint(&mut self, mut claims: Claims) -> String {
        if claims.audiences.is_empty() {
            claims.audiences = vec![API_AUDIENCE.to_owned()];
        }
        let mut kubernetes = json!({
            "namespace": claims.namespace,
            "serviceaccount": { "name": claims.service_account, "uid": claims.service_account_uid },
        });
        if let Some((name, uid)) = &claims.pod {
            kubernetes["pod"] = json!({ "name": name, "uid": uid });
        }
        let payload = json!({
            "aud": claims.audiences,
            "exp": seconds(claims.expires),
            "iat": seconds(SystemTime::now()),
            "iss": ISSUER,
            "jti": random(12),
            "kubernetes.io": kubernetes,
            "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.service_account),
        });
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = encode(json!({ "alg": "RS256", "kid": "stand-in", "typ": "JWT" }));
        let token = format!("{head}.{}.{}", encode(payload), random(48));
        self.minted.insert(token.clone(), claims);
        token
    }

    /// Whose token this is, if it is good for one of the audiences; an error says why not.
    pub fn user(&self, token: &str, audiences: &[String]) -> Result<(User, Vec<String>), String> {
        let for_api =
            audiences.is_empty() || audiences.iter().any(|audience| audience == API_AUDIENCE);
        if token == self.admin && for_api {
            return Ok((User::admin(), audiences.to_vec()));
        }
        let claims = self.minted.get(token);
        let claims = claims.ok_or("invalid bearer token")?;
        if claims.expires <= SystemTime::now() {
            return Err("invalid bearer token, service account token has expired".to_owned());
        }
        let api = [API_AUDIENCE.to_owned()];
        let wanted = if audiences.is_empty() {
            &api
        } else {
            audiences
        };
        let matching: Vec<String> = wanted
            .iter()
            .filter(|audience| claims.audiences.contains(audience))
            .cloned()
            .collect();
        if matching.is_empty() {
            return Err(format!(
                "invalid bearer token, token audiences {:?} is invalid for the target audiences {wanted:?}",
                claims.audiences
            ));
        }
        let mut user = User::service_account(&claims.namespace, &claims.service_account);
        user.uid = claims.service_account_uid.clone();
        if let Some((name, uid)) = &claims.pod {
            let key = |name: &str| format!("authentication.kubernetes.io/{name}");
            user.extra = vec![
                (key("pod-name"), name.clone()),
                (key("pod-uid"), uid.clone()),
            ];
        }
        Ok((user, matching))
    }

    /// What a token was minted with.
    pub fn claims(&self, token: &str) -> Option<&Claims> {
        self.minted.get(token)
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

fn random(bytes: usize) -> String {
    let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(bytes)
        .collect();
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(expires: SystemTime) -> Claims {
        Claims {
            namespace: "demo".to_owned(),
            service_account: "web".to_owned(),
            service_account_uid: "1".to_owned(),
            pod: Some(("web-0".to_owned(), "2".to_owned())),
            audiences: vec!["weft".to_owned()],
            expires,
        }
    }

    #[test]
    fn a_token_is_good_for_its_audience_until_it_expires() {
        let mut tokens = Tokens::default();
        let soon = SystemTime::now() + Duration::from_secs(600);
        let token = tokens.mint(claims(soon));
        let weft = ["weft".to_owned(), "other".to_owned()];
        let (user, audiences) = tokens.user(&token, &weft).unwrap();
        assert_eq!(user.name, "system:serviceaccount:demo:web");
        assert_eq!(audiences, ["weft"]);
        assert_eq!(
            user.info()["extra"]["authentication.kubernetes.io/pod-name"],
            json!(["web-0"])
        );
        assert!(tokens.user(&token, &[]).unwrap_err().contains("audiences"));
        let expired = tokens.mint(claims(UNIX_EPOCH));
        assert!(
            tokens
                .user(&expired, &weft)
                .unwrap_err()
                .contains("expired")
        );
        assert_eq!(tokens.user("x", &weft).unwrap_err(), "invalid bearer token");
    }
}

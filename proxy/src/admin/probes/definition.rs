//! What the application is asked, as Kubernetes writes probes.

use http::{HeaderName, HeaderValue, uri::PathAndQuery};
use serde::Deserialize;
use std::{collections::HashMap, fmt::Write, num::NonZeroU16, str::FromStr, time::Duration};

/// The probes of the application, by container and name (`livez`, `readyz`, `startupz`, `poststart`,
/// `prestop`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AppProbes(HashMap<String, HashMap<String, Probe>>);

/// One question to the application.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// What is asked.
    pub ask: Ask,
    /// From the first byte to the last. Kubernetes' default is a second.
    pub timeout: Duration,
}

/// How the application is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// GET, answered by a status of 200 to 399.
    Http {
        /// Where.
        port: NonZeroU16,
        /// Path and query.
        path: PathAndQuery,
        /// Over TLS, whose certificate nobody verifies: the kubelet would not either.
        tls: bool,
        /// Further fields. `Host` stands for the address that was asked.
        headers: Vec<(HeaderName, HeaderValue)>,
    },
    /// A connection that is made.
    Tcp {
        /// Where.
        port: NonZeroU16,
    },
    /// `grpc.health.v1.Health/Check`, answered by SERVING.
    Grpc {
        /// Where.
        port: NonZeroU16,
        /// Which; empty for all of the server.
        service: String,
    },
}

/// Why probes cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum InvalidProbes {
    /// They are not JSON of the form `{"<container>": {"livez": {"httpGet": {"port": 8080}}}}`.
    #[error(
        "{0}; expected for example {{\"app\": {{\"livez\": {{\"httpGet\": {{\"port\": 8080}}}}}}}}"
    )]
    Form(#[from] serde_json::Error),
    /// One of them cannot be asked.
    #[error("{container}.{probe}: {reason}")]
    Probe {
        /// Whose.
        container: String,
        /// Which.
        probe: String,
        /// Why.
        reason: String,
    },
}

impl AppProbes {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The probe of that name of a container.
    pub fn find(&self, container: &str, probe: &str) -> Option<&Probe> {
        self.0.get(container)?.get(probe)
    }
}

impl FromStr for AppProbes {
    type Err = InvalidProbes;

    fn from_str(text: &str) -> Result<Self, InvalidProbes> {
        let written: HashMap<String, HashMap<String, Written>> = serde_json::from_str(text)?;
        let mut probes = Self::default();
        for (container, of_container) in written {
            for (probe, written) in of_container {
                let read = Probe::try_from(written).map_err(|reason| InvalidProbes::Probe {
                    container: container.clone(),
                    probe: probe.clone(),
                    reason,
                })?;
                let of_container = probes.0.entry(container.clone()).or_default();
                of_container.insert(probe, read);
            }
        }
        Ok(probes)
    }
}

/// A probe as Kubernetes writes it, with ports as numbers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    #[serde(default = "one")]
    timeout_seconds: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    port: NonZeroU16,
    path: Option<String>,
    scheme: Option<String>,
    http_headers: Option<Vec<Header>>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct TcpSocket {
    port: NonZeroU16,
}

#[derive(Deserialize)]
struct Grpc {
    port: NonZeroU16,
    service: Option<String>,
}

fn one() -> u64 {
    1
}

impl TryFrom<Written> for Probe {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written {
            http_get,
            tcp_socket,
            grpc,
            timeout_seconds,
        } = written;
        let ask = match (http_get, tcp_socket, grpc) {
            (Some(http), None, None) => http.try_into()?,
            (None, Some(TcpSocket { port }), None) => Ask::Tcp { port },
            (None, None, Some(Grpc { port, service })) => Ask::Grpc {
                port,
                service: service.unwrap_or_default(),
            },
            _ => return Err("one of httpGet, tcpSocket and grpc is expected".to_owned()),
        };
        Ok(Self {
            ask,
            timeout: Duration::from_secs(timeout_seconds.max(1)),
        })
    }
}

impl TryFrom<HttpGet> for Ask {
    type Error = String;

    fn try_from(http: HttpGet) -> Result<Self, String> {
        let path = http.path.unwrap_or_default();
        let headers = http.http_headers.unwrap_or_default().into_iter();
        let headers = headers.map(|Header { name, value }| {
            let value = HeaderValue::try_from(value).ok();
            let field = HeaderName::try_from(&name).ok().zip(value);
            field.ok_or_else(|| format!("{name:?} is no header field"))
        });
        Ok(Self::Http {
            port: http.port,
            path: escaped(&path)
                .parse()
                .map_err(|_| format!("{path:?} is no path"))?,
            tls: http.scheme.as_deref() == Some("HTTPS"),
            headers: headers.collect::<Result<_, _>>()?,
        })
    }
}

/// The path as it goes over the wire: from the root, without bytes that may not stand there. Escapes stay.
fn escaped(path: &str) -> String {
    let mut escaped = String::from(if path.starts_with('/') { "" } else { "/" });
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(text: &str) -> Result<Probe, String> {
        let text = format!(r#"{{"app": {{"livez": {text}}}}}"#);
        let probes: AppProbes = text.parse().map_err(|e: InvalidProbes| e.to_string())?;
        Ok(probes.find("app", "livez").unwrap().clone())
    }

    #[test]
    fn probes_are_read_as_kubernetes_writes_them() {
        let read = probe(
            r#"{"httpGet": {"port": 8443, "path": "live?deep=1 2", "scheme": "HTTPS",
                "httpHeaders": [{"name": "Host", "value": "a.example"}]}, "timeoutSeconds": 3}"#,
        );
        assert_eq!(
            read,
            Ok(Probe {
                ask: Ask::Http {
                    port: NonZeroU16::new(8443).unwrap(),
                    path: PathAndQuery::from_static("/live?deep=1%202"),
                    tls: true,
                    headers: vec![(http::header::HOST, HeaderValue::from_static("a.example"))],
                },
                timeout: Duration::from_secs(3),
            })
        );
        let port = NonZeroU16::new(80).unwrap();
        for (text, ask) in [
            (r#"{"tcpSocket": {"port": 80}}"#, Ask::Tcp { port }),
            (
                r#"{"grpc": {"port": 80, "service": "a.B"}, "timeoutSeconds": 0}"#,
                Ask::Grpc {
                    port,
                    service: "a.B".to_owned(),
                },
            ),
        ] {
            let timeout = Duration::from_secs(1);
            assert_eq!(probe(text), Ok(Probe { ask, timeout }));
        }
    }

    #[test]
    fn a_mistake_names_the_probe() {
        for (text, word) in [
            ("{}", "app.livez: one of httpGet"),
            (r#"{"httpGet": {"port": 0}}"#, "nonzero"),
            (
                r#"{"httpGet": {"port": 80, "httpHeaders": [{"name": "a b"}]}}"#,
                "app.livez: \"a b\"",
            ),
            ("[", "expected for example"),
        ] {
            let error = probe(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!("{}".parse::<AppProbes>().unwrap().is_empty());
    }
}

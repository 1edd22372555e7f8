//! What a pod may say about its sidecar. Every annotation stands in `docs/injection.md`.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};
use tracing_subscriber::filter::Targets;

use super::{Invalid, PortRange, Quantity, Subnet, settings};

/// The annotations of a pod, understood. What it does not say is `None`, or empty.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wishes {
    pub(super) native_sidecar: Option<bool>,
    pub(super) image: Option<String>,
    pub(super) log_level: Option<String>,
    pub(super) access_log: Option<String>,
    pub(super) requests: BTreeMap<&'static str, Quantity>,
    pub(super) limits: BTreeMap<&'static str, Quantity>,
    pub(super) skip_inbound_ports: Vec<PortRange>,
    pub(super) skip_outbound_ports: Vec<PortRange>,
    pub(super) skip_outbound_subnets: Vec<Subnet>,
}

const NATIVE_SIDECAR: &str = "weft.dev/native-sidecar";
const IMAGE: &str = "weft.dev/proxy-image";
const LOG_LEVEL: &str = "weft.dev/proxy-log-level";
const ACCESS_LOG: &str = "weft.dev/proxy-access-log";
const CPU_REQUEST: &str = "weft.dev/proxy-cpu-request";
pub(super) const CPU_LIMIT: &str = "weft.dev/proxy-cpu-limit";
const MEMORY_REQUEST: &str = "weft.dev/proxy-memory-request";
pub(super) const MEMORY_LIMIT: &str = "weft.dev/proxy-memory-limit";
const SKIP_INBOUND_PORTS: &str = "weft.dev/skip-inbound-ports";
const SKIP_OUTBOUND_PORTS: &str = "weft.dev/skip-outbound-ports";
const SKIP_OUTBOUND_SUBNETS: &str = "weft.dev/skip-outbound-subnets";

/// Every annotation that the injector takes wishes from.
const KNOWN: [&str; 11] = [
    NATIVE_SIDECAR,
    IMAGE,
    LOG_LEVEL,
    ACCESS_LOG,
    CPU_REQUEST,
    CPU_LIMIT,
    MEMORY_REQUEST,
    MEMORY_LIMIT,
    SKIP_INBOUND_PORTS,
    SKIP_OUTBOUND_PORTS,
    SKIP_OUTBOUND_SUBNETS,
];

/// How the injector's annotations begin: another one of these would look like a wish and be none.
const PREFIXES: [&str; 3] = ["weft.dev/proxy-", "weft.dev/skip-", "weft.dev/native-"];

impl Wishes {
    /// Understands the annotations, or says which it does not.
    pub(super) fn read(annotations: &BTreeMap<String, String>) -> Result<Self, Invalid> {
        for name in annotations.keys().map(String::as_str) {
            let ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if ours && !KNOWN.contains(&name) {
                return Err(Invalid::new(
                    field(name),
                    format!(
                        "there is no such annotation; there are {}",
                        KNOWN.join(", ")
                    ),
                ));
            }
        }
        let amounts = |cpu, memory| -> Result<_, Invalid> {
            let cpu = one(annotations, cpu)?.map(|amount| ("cpu", amount));
            let memory = one(annotations, memory)?.map(|amount| ("memory", amount));
            Ok(cpu.into_iter().chain(memory).collect())
        };
        Ok(Self {
            native_sidecar: one(annotations, NATIVE_SIDECAR)?,
            image: text(annotations, IMAGE, |text| {
                let one_word = !text.is_empty() && !text.contains(char::is_whitespace);
                one_word.then_some(()).ok_or("is no image")
            })?,
            log_level: text(annotations, LOG_LEVEL, |text| {
                let directives = text.parse::<Targets>().map(drop);
                directives.map_err(|_| "is no level; write error, warn, info, debug or trace")
            })?,
            access_log: text(annotations, ACCESS_LOG, settings::check_access_log)?,
            requests: amounts(CPU_REQUEST, MEMORY_REQUEST)?,
            limits: amounts(CPU_LIMIT, MEMORY_LIMIT)?,
            skip_inbound_ports: list(annotations, SKIP_INBOUND_PORTS)?,
            skip_outbound_ports: list(annotations, SKIP_OUTBOUND_PORTS)?,
            skip_outbound_subnets: list(annotations, SKIP_OUTBOUND_SUBNETS)?,
        })
    }
}

/// The field that an annotation is.
pub(super) fn field(name: &str) -> String {
    format!("metadata.annotations[\"{name}\"]")
}

fn one<T: FromStr<Err: Display>>(
    annotations: &BTreeMap<String, String>,
    name: &str,
) -> Result<Option<T>, Invalid> {
    let parse = |text: &String| text.trim().parse();
    let parsed = annotations.get(name).map(parse).transpose();
    parsed.map_err(|error: T::Err| Invalid::new(field(name), error.to_string()))
}

fn list<T: FromStr<Err: Display>>(
    annotations: &BTreeMap<String, String>,
    name: &str,
) -> Result<Vec<T>, Invalid> {
    let text = annotations.get(name).map(String::as_str);
    let items = text.unwrap_or_default().split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(|item| {
            let parsed = item.parse();
            parsed.map_err(|error: T::Err| Invalid::new(field(name), error.to_string()))
        })
        .collect()
}

fn text(
    annotations: &BTreeMap<String, String>,
    name: &str,
    check: impl Fn(&str) -> Result<(), &'static str>,
) -> Result<Option<String>, Invalid> {
    let Some(text) = annotations.get(name).map(|text| text.trim()) else {
        return Ok(None);
    };
    check(text).map_err(|reason| Invalid::new(field(name), format!("{text:?} {reason}")))?;
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Wishes, Invalid> {
        Wishes::read(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn what_a_pod_does_not_say_it_does_not_wish() {
        assert_eq!(Wishes::read(&BTreeMap::new()), Ok(Wishes::default()));
        assert_eq!(read("example.org/proxy-image", "x"), Ok(Wishes::default()));
        assert_eq!(read(SKIP_INBOUND_PORTS, " "), Ok(Wishes::default()));
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let wishes = read(SKIP_OUTBOUND_PORTS, "3306, 8000-8999").unwrap();
        let ports: Vec<_> = wishes
            .skip_outbound_ports
            .iter()
            .map(PortRange::to_string)
            .collect();
        assert_eq!(ports, ["3306", "8000-8999"]);
    }

    #[test]
    fn a_mistake_names_the_annotation_and_what_was_expected() {
        for (name, value, word) in [
            (NATIVE_SIDECAR, "maybe", "true"),
            (IMAGE, "", "image"),
            (LOG_LEVEL, "weft=loud", "debug"),
            (ACCESS_LOG, "sample:2", "errors"),
            (CPU_LIMIT, "lots", "100m"),
            (MEMORY_REQUEST, "", "64Mi"),
            (SKIP_INBOUND_PORTS, "80,x", "8000-8999"),
            (SKIP_OUTBOUND_SUBNETS, "10.0.0.0/33", "10.0.0.0/8"),
            ("weft.dev/skip-outbound-port", "80", SKIP_OUTBOUND_PORTS),
        ] {
            let invalid = read(name, value).unwrap_err();
            assert_eq!(invalid.field, field(name));
            assert!(invalid.reason.contains(word), "{name}: {}", invalid.reason);
        }
    }
}

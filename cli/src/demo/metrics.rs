//! The numbers of the edges, from what the callers' sidecars expose to Prometheus.

use std::{collections::BTreeMap, time::Duration};

use super::topology::{Edge, PodName, Protocol, Workload};

/// What a sidecar has counted of one edge since it started, or a sum or difference of such counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// Requests that did not go over mutual TLS.
    pub(super) plaintext: u64,
    pub(super) retries: u64,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) durations: Histogram,
}

impl Counts {
    /// The share of requests that succeeded. Absent without requests.
    pub(super) fn success(&self) -> Option<f64> {
        let failed = self.failed.min(self.requests);
        (self.requests > 0).then(|| (self.requests - failed) as f64 / self.requests as f64)
    }

    /// Whether all requests went over mutual TLS. Absent without requests.
    pub(super) fn mtls(&self) -> Option<bool> {
        (self.requests > 0).then_some(self.plaintext == 0)
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.plaintext += other.plaintext;
        self.retries += other.retries;
        for (reason, count) in &other.errors {
            *self.errors.entry(reason.clone()).or_default() += count;
        }
        for (bound, count) in &other.durations.0 {
            *self.durations.0.entry(*bound).or_default() += count;
        }
    }

    /// What was counted after `earlier`. The reasons of errors stay out: they are told at the end only.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let durations = self.durations.0.iter().map(|(bound, count)| {
            let then = earlier.durations.0.get(bound).copied().unwrap_or_default();
            (*bound, since(*count, then))
        });
        Self {
            requests: since(self.requests, earlier.requests),
            failed: since(self.failed, earlier.failed),
            plaintext: since(self.plaintext, earlier.plaintext),
            retries: since(self.retries, earlier.retries),
            errors: BTreeMap::new(),
            durations: Histogram(durations.collect()),
        }
    }
}

/// Cumulative counts by upper bound, in microseconds; `u64::MAX` is `+Inf`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    /// A quantile, interpolated within its bucket as Prometheus does. Absent without observations.
    pub(super) fn quantile(&self, q: f64) -> Option<Duration> {
        let total = *self.0.values().last()?;
        if total == 0 {
            return None;
        }
        let rank = q * total as f64;
        let (mut lower, mut below) = (0, 0);
        for (&bound, &count) in &self.0 {
            if count as f64 >= rank && count > below {
                if bound == u64::MAX {
                    break;
                }
                let within = (rank - below as f64) / (count - below) as f64;
                let micros = lower as f64 + within * (bound - lower) as f64;
                return Some(Duration::from_secs_f64(micros.max(0.0) / 1e6));
            }
            if bound != u64::MAX {
                (lower, below) = (bound, count);
            }
        }
        Some(Duration::from_micros(lower))
    }
}

/// Counts of every edge, summed over callers that come and go.
#[derive(Debug, Default)]
pub(super) struct Edges {
    current: BTreeMap<PodName, BTreeMap<Edge, Counts>>,
    gone: BTreeMap<Edge, Counts>,
}

impl Edges {
    /// Takes in what the sidecar of a pod exposes now.
    pub(super) fn observe(&mut self, pod: PodName, exposition: &str) {
        self.current.insert(pod, parse(pod.workload, exposition));
    }

    /// Keeps the counts of a pod whose sidecar has ended: a new one counts from zero.
    pub(super) fn end(&mut self, pod: PodName) {
        for (edge, counts) in self.current.remove(&pod).unwrap_or_default() {
            self.gone.entry(edge).or_default().add(&counts);
        }
    }

    /// The sums, with an entry for every edge of the demo.
    pub(super) fn total(&self) -> BTreeMap<Edge, Counts> {
        let mut total: BTreeMap<_, _> = Edge::all().map(|edge| (edge, Counts::default())).collect();
        for edges in self.current.values().chain([&self.gone]) {
            for (edge, counts) in edges {
                total.entry(*edge).or_default().add(counts);
            }
        }
        total
    }
}

/// A metric without labels in an exposition.
pub(super) fn gauge(exposition: &str, name: &str) -> Option<f64> {
    exposition
        .lines()
        .filter_map(Sample::parse)
        .find(|sample| sample.name == name)
        .map(|sample| sample.value)
}

/// The outbound edges of a workload in an exposition of its sidecar.
fn parse(source: Workload, exposition: &str) -> BTreeMap<Edge, Counts> {
    let mut edges: BTreeMap<Edge, Counts> = BTreeMap::new();
    for sample in exposition.lines().filter_map(Sample::parse) {
        if sample.label("direction") != Some("outbound") {
            continue;
        }
        let called = source
            .calls()
            .iter()
            .find(|called| sample.label("destination_service") == Some(called.name()));
        let Some(&destination) = called else {
            continue;
        };
        let edge = Edge {
            source,
            destination,
        };
        let count = sample.value as u64;
        let counts = edges.entry(edge).or_default();
        match sample.name {
            "weft_requests_total" => {
                counts.requests += count;
                if sample.label("mtls") != Some("true") {
                    counts.plaintext += count;
                }
                if sample.label("status") != Some("2xx") {
                    counts.failed += count;
                }
            }
            // A failed gRPC call has HTTP status 200.
            "weft_grpc_responses_total"
                if edge.protocol() == Protocol::Grpc
                    && sample.label("grpc_status") != Some("0") =>
            {
                counts.failed += count;
            }
            "weft_request_retries_total" => counts.retries += count,
            "weft_request_errors_total" if count > 0 => {
                let reason = sample.label("reason").unwrap_or("unknown").to_owned();
                *counts.errors.entry(reason).or_default() += count;
            }
            "weft_request_duration_seconds_bucket" => {
                let bound = match sample.label("le").map(str::parse::<f64>) {
                    Some(Ok(seconds)) if seconds.is_finite() => (seconds * 1e6).round() as u64,
                    _ => u64::MAX,
                };
                *counts.durations.0.entry(bound).or_default() += count;
            }
            _ => {}
        }
    }
    edges
}

/// A line of the Prometheus text format.
#[derive(Debug, PartialEq)]
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

impl<'a> Sample<'a> {
    /// Reads a line; comments and what is malformed are no samples.
    fn parse(line: &'a str) -> Option<Self> {
        let name_end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(name_end);
        if name.is_empty() || name.starts_with('#') {
            return None;
        }
        let mut labels = Vec::new();
        let mut rest = match rest.strip_prefix('{') {
            None => rest,
            Some(mut rest) => loop {
                rest = rest.trim_start_matches(',');
                if let Some(rest) = rest.strip_prefix('}') {
                    break rest;
                }
                let (key, quoted) = rest.split_once("=\"")?;
                let (value, after) = unquote(quoted)?;
                labels.push((key, value));
                rest = after;
            },
        };
        rest = rest.trim_start();
        // A timestamp or an exemplar may follow.
        let value = rest.split(' ').next()?.parse().ok()?;
        Some(Self {
            name,
            labels,
            value,
        })
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(candidate, _)| *candidate == key)
            .map(|(_, value)| value.as_str())
    }
}

/// Reads up to the closing quote: the text, and what comes after.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER_0: PodName = PodName {
        workload: Workload::Order,
        replica: 0,
    };
    const TO_USER: Edge = Edge {
        source: Workload::Order,
        destination: Workload::User,
    };
    const TO_PRODUCT: Edge = Edge {
        source: Workload::Order,
        destination: Workload::Product,
    };

    #[test]
    fn a_line_of_the_text_format_is_a_name_labels_and_a_value() {
        assert_eq!(
            Sample::parse(r#"weft_x_total{a="1",b="say \"hi\"\\"} 7 # {trace_id="9"} 1.0"#),
            Some(Sample {
                name: "weft_x_total",
                labels: vec![("a", "1".to_owned()), ("b", r#"say "hi"\"#.to_owned())],
                value: 7.0,
            })
        );
        assert_eq!(
            Sample::parse("up 1").map(|sample| (sample.name, sample.value)),
            Some(("up", 1.0))
        );
        for line in [
            "",
            "# HELP up Is up",
            "x{",
            "x{a=\"1} 1",
            "x{} not-a-number",
        ] {
            assert_eq!(Sample::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_gauge_is_found_by_its_whole_name() {
        let exposition = "# TYPE up gauge\nupper 2\nup 1\n";
        assert_eq!(gauge(exposition, "up"), Some(1.0));
        assert_eq!(gauge(exposition, "down"), None);
    }

    #[test]
    fn an_edge_is_the_sum_of_its_series() {
        let exposition = r#"
weft_requests_total{direction="outbound",destination_service="user",mtls="true",status="2xx"} 9
weft_requests_total{direction="outbound",destination_service="user",mtls="false",status="5xx"} 1
weft_requests_total{direction="inbound",destination_service="unknown",mtls="true",status="2xx"} 99
weft_request_errors_total{direction="outbound",destination_service="user",reason="no-healthy-endpoint"} 1
weft_request_errors_total{direction="outbound",destination_service="user",reason="internal"} 0
weft_requests_total{direction="outbound",destination_service="product",mtls="true",status="2xx"} 4
weft_grpc_responses_total{direction="outbound",destination_service="product",grpc_status="0"} 3
weft_grpc_responses_total{direction="outbound",destination_service="product",grpc_status="14"} 1
weft_request_retries_total{direction="outbound",destination_service="product"} 2
"#;
        let mut edges = Edges::default();
        edges.observe(ORDER_0, exposition);
        let total = edges.total();
        let user = &total[&TO_USER];
        assert_eq!((user.requests, user.failed, user.plaintext), (10, 1, 1));
        assert_eq!((user.success(), user.mtls()), (Some(0.9), Some(false)));
        assert_eq!(
            user.errors,
            BTreeMap::from([("no-healthy-endpoint".to_owned(), 1)])
        );
        let product = &total[&TO_PRODUCT];
        assert_eq!(
            (product.requests, product.failed, product.retries),
            (4, 1, 2)
        );
        assert_eq!(product.mtls(), Some(true));
    }

    #[test]
    fn a_restarted_caller_adds_to_what_it_counted_before() {
        let counted = |n: u32| {
            format!(
                r#"weft_requests_total{{direction="outbound",destination_service="user",mtls="true",status="2xx"}} {n}"#
            )
        };
        let mut edges = Edges::default();
        edges.observe(ORDER_0, &counted(10));
        edges.end(ORDER_0);
        edges.observe(ORDER_0, &counted(1));
        edges.observe(ORDER_0, &counted(2));
        assert_eq!(edges.total()[&TO_USER].requests, 12);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let histogram = Histogram(BTreeMap::from([
            (1_000, 0),
            (2_000, 50),
            (4_000, 100),
            (u64::MAX, 100),
        ]));
        let micros = |q| histogram.quantile(q).map(|d| d.as_micros());
        assert_eq!(micros(0.25), Some(1_500));
        assert_eq!(micros(0.5), Some(2_000));
        assert_eq!(micros(0.99), Some(3_960));
        let beyond = Histogram(BTreeMap::from([(1_000, 0), (u64::MAX, 5)]));
        assert_eq!(beyond.quantile(0.5), Some(Duration::from_millis(1)));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}

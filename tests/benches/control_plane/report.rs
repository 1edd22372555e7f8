//! What was measured, for people and for programs.

use serde_json::{Value, json};
use std::{
    io::{self, Write},
    time::Duration,
};
use weft_tests::bench::control_plane::ledger::Latency;

/// The rows in the order in which they were measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    phase: &'static str,
    what: &'static str,
    value: f64,
    unit: &'static str,
    at_most: Option<f64>,
}

impl Report {
    /// Notes a value.
    pub(crate) fn row(
        &mut self,
        phase: &'static str,
        what: &'static str,
        value: f64,
        unit: &'static str,
    ) {
        self.rows.push(Row {
            phase,
            what,
            value,
            unit,
            at_most: None,
        });
    }

    /// Notes a value that must not be above a bar.
    pub(crate) fn bar(
        &mut self,
        phase: &'static str,
        what: &'static str,
        value: f64,
        unit: &'static str,
        at_most: f64,
    ) {
        self.row(phase, what, value, unit);
        self.rows.last_mut().expect("just pushed").at_most = Some(at_most);
    }

    /// Notes a count of what must not happen.
    pub(crate) fn none(&mut self, phase: &'static str, what: &'static str, count: f64) {
        self.bar(phase, what, count, "", 0.0);
    }

    /// Notes a duration in milliseconds.
    pub(crate) fn time(&mut self, phase: &'static str, what: &'static str, took: Duration) {
        self.row(phase, what, took.as_secs_f64() * 1000.0, "ms");
    }

    /// Notes how long changes took.
    pub(crate) fn latency(
        &mut self,
        phase: &'static str,
        names: [&'static str; 4],
        latency: Latency,
    ) {
        let [changes, p50, p99, max] = names;
        self.row(phase, changes, latency.changes as f64, "");
        self.time(phase, p50, latency.p50);
        self.time(phase, p99, latency.p99);
        self.time(phase, max, latency.max);
    }

    /// The table, in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from("| phase | what | value | bar |\n|---|---|--:|--:|\n");
        let mut phase = "";
        for row in &self.rows {
            let shown = if row.phase == phase { "" } else { row.phase };
            phase = row.phase;
            let bar = row.at_most.map_or_else(String::new, |at_most| {
                let kept = if row.value <= at_most {
                    "met"
                } else {
                    "missed"
                };
                format!("{} {}, {kept}", number(at_most), row.unit)
            });
            let value = format!("{} {}", number(row.value), row.unit);
            let line = format!("| {shown} | {} | {} | {bar} |\n", row.what, value.trim());
            table.push_str(&line);
        }
        table
    }

    /// The same as JSON.
    pub(crate) fn json(&self, settings: Value) -> Value {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "phase": row.phase,
                    "what": row.what,
                    "value": row.value,
                    "unit": row.unit,
                    "at_most": row.at_most,
                })
            })
            .collect();
        json!({ "settings": settings, "rows": rows })
    }
}

/// Tells whoever waits what is going on.
pub(crate) fn note(text: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Three digits, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

//! The demo on a terminal: a table per second that replaces the one before, and the one at the end.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};

use super::{
    metrics::Counts,
    say,
    summary::{EdgeSummary, Summary},
    topology::Edge,
};

/// A table that is drawn over itself, below the lines of what happened. Without a terminal there are only the lines.
#[derive(Debug)]
pub(super) struct Live {
    enabled: bool,
    table: String,
    previous: BTreeMap<Edge, Counts>,
}

impl Live {
    /// A table that has not been drawn.
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            enabled: wanted && io::stdout().is_terminal(),
            table: String::new(),
            previous: BTreeMap::new(),
        }
    }

    /// Draws what was counted since the last call, `elapsed` ago.
    pub(super) fn draw(&mut self, total: &BTreeMap<Edge, Counts>, elapsed: Duration) {
        let rows = total.iter().map(|(edge, counts)| {
            let recent = self
                .previous
                .get(edge)
                .map_or_else(|| counts.clone(), |earlier| counts.since(earlier));
            EdgeSummary::new(*edge, &recent)
        });
        let table = edges_table(rows, elapsed).to_string() + "\n";
        self.previous = total.clone();
        self.replace("", table);
    }

    /// Writes a line above the table.
    pub(super) fn tell(&mut self, line: &str) {
        if self.enabled {
            let table = self.table.clone();
            self.replace(&format!("{line}\n"), table);
        } else {
            say(line);
        }
    }

    fn replace(&mut self, above: &str, table: String) {
        if !self.enabled {
            return;
        }
        let erase = match self.table.lines().count() {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        };
        let mut stdout = io::stdout();
        // A terminal that goes away ends the demo by SIGHUP; there is nobody to tell of a failed write.
        let _ = write!(stdout, "{erase}{above}{table}").and_then(|()| stdout.flush());
        self.table = table;
    }
}

/// The summary for people.
pub(super) fn summary(summary: &Summary) -> String {
    let duration = Duration::from_secs_f64(summary.duration_seconds);
    let edges = edges_table(summary.edges.iter(), duration);
    let mut text = format!("\n{edges}\n\n");
    let load = &summary.load;
    text += &format!(
        "{} orders in {:.0} s, {} failed, p50 {} ms, p99 {} ms\n",
        load.requests,
        summary.duration_seconds,
        load.failed,
        number(load.p50_ms, 1),
        number(load.p99_ms, 1),
    );
    if summary.ok {
        text += "ok: every request succeeded over mutual TLS while a replica went and came back\n";
    }
    for failure in &summary.failures {
        text += &format!("failed: {failure}\n");
    }
    text
}

fn edges_table<E: std::borrow::Borrow<EdgeSummary>>(
    edges: impl Iterator<Item = E>,
    elapsed: Duration,
) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "edge", "protocol", "req/s", "success", "p50 ms", "p99 ms", "mTLS", "retries",
    ]);
    for edge in edges {
        let edge = edge.borrow();
        let rate = edge.requests as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        table.add_row([
            format!("{} -> {}", edge.source, edge.destination),
            edge.protocol.name().to_owned(),
            format!("{rate:.0}"),
            edge.success
                .map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0)),
            number(edge.p50_ms, 2),
            number(edge.p99_ms, 2),
            match edge.mtls {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "-",
            }
            .to_owned(),
            edge.retries.to_string(),
        ]);
    }
    for column in [2, 3, 4, 5, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

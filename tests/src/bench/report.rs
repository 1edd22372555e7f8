//! From runs to tables: medians per peer, and the ratios of one peer to every other.

use super::{figure::Figure, spread::Spread, table};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One scenario through one peer in one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The name of the scenario.
    pub scenario: &'static str,
    /// The name of the peer.
    pub peer: &'static str,
    /// Which round it was.
    pub round: u32,
    /// What the tables show.
    pub figures: BTreeMap<Figure, f64>,
    /// What they were computed from, and what is known beside them.
    pub detail: Value,
}

/// Adds to every latency what it has above that of a peer without sidecars in the same round.
pub fn add_latency_over(baseline: &str, runs: &mut [Run]) {
    let before = runs.to_vec();
    for run in runs.iter_mut().filter(|run| run.peer != baseline) {
        let direct = before.iter().find(|other| {
            (other.peer, other.scenario, other.round) == (baseline, run.scenario, run.round)
        });
        let Some(direct) = direct else { continue };
        for (figure, latency) in run.figures.clone() {
            if let (Some(added), Some(least)) = (figure.added(), direct.figures.get(&figure)) {
                run.figures.insert(added, latency - least);
            }
        }
    }
}

/// The table of a scenario: a row per peer in the order of `peers`, then the ratios of `subject` to each other peer.
pub fn scenario_table(runs: &[Run], peers: &[&str], subject: &str) -> String {
    let figures: Vec<Figure> = {
        let mut all: Vec<_> = runs
            .iter()
            .flat_map(|run| run.figures.keys().copied())
            .collect();
        all.sort();
        all.dedup();
        all
    };
    let row = |name: String, spread: &dyn Fn(Figure) -> Option<Spread>| {
        let cells = figures
            .iter()
            .map(|figure| spread(*figure).map_or_else(String::new, table::spread));
        std::iter::once(name).chain(cells).collect::<Vec<_>>()
    };
    let mut rows = vec![
        std::iter::once("peer".to_owned())
            .chain(figures.iter().map(|figure| figure.name().to_owned()))
            .collect(),
    ];
    for peer in peers {
        rows.push(row((*peer).to_owned(), &|figure| {
            spread(runs, peer, figure)
        }));
    }
    for peer in peers.iter().filter(|peer| **peer != subject) {
        let ratios = row(format!("{subject} / {peer}"), &|figure| {
            ratio(runs, subject, peer, figure)
        });
        if ratios[1..].iter().any(|cell| !cell.is_empty()) {
            rows.push(ratios);
        }
    }
    table::render(&rows)
}

/// Every number of the runs and what the tables make of them.
pub fn json(runs: &[Run], subject: &str) -> Value {
    let runs_json: Vec<Value> = runs
        .iter()
        .map(|run| {
            json!({
                "scenario": run.scenario,
                "peer": run.peer,
                "round": run.round,
                "figures": by_name(run.figures.iter().map(|(figure, value)| (*figure, json!(value)))),
                "detail": run.detail,
            })
        })
        .collect();
    let mut summary = serde_json::Map::new();
    for run in runs {
        let of_scenario: Vec<Run> = runs
            .iter()
            .filter(|other| other.scenario == run.scenario)
            .cloned()
            .collect();
        let figures = run.figures.keys().map(|figure| {
            let ratio = ratio(&of_scenario, subject, run.peer, *figure);
            let ratio = ratio.filter(|_| run.peer != subject).map(spread_json);
            let value = spread(&of_scenario, run.peer, *figure).map(spread_json);
            (*figure, json!({ "value": value, "ratio": ratio }))
        });
        let scenario = summary.entry(run.scenario).or_insert_with(|| json!({}));
        scenario[run.peer] = by_name(figures);
    }
    json!({ "subject": subject, "summary": summary, "runs": runs_json })
}

fn spread(runs: &[Run], peer: &str, figure: Figure) -> Option<Spread> {
    let of_peer = runs.iter().filter(|run| run.peer == peer);
    Spread::of(of_peer.filter_map(|run| run.figures.get(&figure).copied()))
}

/// The spread of the ratios within each round: what slows the whole machine for a while slows both.
fn ratio(runs: &[Run], subject: &str, peer: &str, figure: Figure) -> Option<Spread> {
    let of = |peer: &str, round: u32| {
        let run = runs
            .iter()
            .find(|run| run.peer == peer && run.round == round)?;
        run.figures.get(&figure).copied()
    };
    let rounds = runs
        .iter()
        .filter(|run| run.peer == subject)
        .map(|run| run.round);
    Spread::of(rounds.filter_map(|round| {
        let base = of(peer, round)?;
        // What a peer adds may be lost in the noise, and then nothing is a multiple of it.
        (base > 0.0).then_some(of(subject, round)? / base)
    }))
}

fn by_name(figures: impl Iterator<Item = (Figure, Value)>) -> Value {
    figures
        .map(|(figure, value)| (figure.name().to_owned(), value))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn spread_json(spread: Spread) -> Value {
    let Spread { median, min, max } = spread;
    json!({ "median": median, "min": min, "max": max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(peer: &'static str, round: u32, figures: &[(Figure, f64)]) -> Run {
        Run {
            scenario: "http",
            peer,
            round,
            figures: figures.iter().copied().collect(),
            detail: json!({}),
        }
    }

    /// The machine is half as fast in the second round.
    fn runs() -> Vec<Run> {
        vec![
            run("direct", 1, &[(Figure::RequestsPerSecond, 100.0)]),
            run(
                "weft",
                1,
                &[
                    (Figure::RequestsPerSecond, 60.0),
                    (Figure::CpuPerRequest, 10.0),
                ],
            ),
            run(
                "envoy",
                1,
                &[
                    (Figure::RequestsPerSecond, 20.0),
                    (Figure::CpuPerRequest, 40.0),
                ],
            ),
            run("direct", 2, &[(Figure::RequestsPerSecond, 50.0)]),
            run(
                "weft",
                2,
                &[
                    (Figure::RequestsPerSecond, 30.0),
                    (Figure::CpuPerRequest, 20.0),
                ],
            ),
            run(
                "envoy",
                2,
                &[
                    (Figure::RequestsPerSecond, 10.0),
                    (Figure::CpuPerRequest, 80.0),
                ],
            ),
        ]
    }

    #[test]
    fn ratios_are_those_within_a_round() {
        let expected = "\
| peer          | requests/s       | CPU us/request   |
| ------------- | ---------------- | ---------------- |
| direct        | 75.0 [50.0-100]  |                  |
| weft          | 45.0 [30.0-60.0] | 15.0 [10.0-20.0] |
| envoy         | 15.0 [10.0-20.0] | 60.0 [40.0-80.0] |
| weft / direct | 0.60 [0.60-0.60] |                  |
| weft / envoy  | 3.00 [3.00-3.00] | 0.25 [0.25-0.25] |
";
        let peers = ["direct", "weft", "envoy"];
        assert_eq!(scenario_table(&runs(), &peers, "weft"), expected);
    }

    #[test]
    fn added_latency_is_that_above_no_sidecars_in_the_same_round() {
        let mut runs = vec![
            run("direct", 1, &[(Figure::P50, 1.0)]),
            run("weft", 1, &[(Figure::P50, 1.5)]),
            run("direct", 2, &[(Figure::P50, 2.0)]),
            run("weft", 2, &[(Figure::P50, 4.0)]),
        ];
        add_latency_over("direct", &mut runs);
        let added: Vec<_> = runs
            .iter()
            .map(|run| run.figures.get(&Figure::AddedP50).copied())
            .collect();
        assert_eq!(added, [None, Some(0.5), None, Some(2.0)]);
    }

    #[test]
    fn json_has_every_run_and_the_summary() {
        let json = json(&runs(), "weft");
        assert_eq!(json["runs"][2]["figures"]["CPU us/request"], 40.0);
        let envoy = &json["summary"]["http"]["envoy"]["CPU us/request"];
        let expected = json!({
            "value": { "median": 60.0, "min": 40.0, "max": 80.0 },
            "ratio": { "median": 0.25, "min": 0.25, "max": 0.25 },
        });
        assert_eq!(envoy, &expected);
        assert_eq!(
            json["summary"]["http"]["weft"]["CPU us/request"]["ratio"],
            Value::Null
        );
    }
}

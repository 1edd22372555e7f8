//! What wrk prints.

use super::Throughput;
use anyhow::{Context, ensure};

/// Reads wrk's report; any failed request is an error.
pub fn parse(output: &str) -> anyhow::Result<Throughput> {
    let line = |start: &str| {
        let mut lines = output.lines().map(str::trim);
        lines.find_map(|line| line.strip_prefix(start).map(str::trim))
    };
    for failure in ["Socket errors:", "Non-2xx or 3xx responses:"] {
        let found = line(failure);
        ensure!(
            found.is_none(),
            "wrk saw failures: {failure} {}",
            found.unwrap_or_default()
        );
    }
    let requests = output
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "));
    let requests = requests.and_then(|(number, _)| number.parse().ok());
    let per_second = line("Requests/sec:").and_then(|number| number.parse().ok());
    Ok(Throughput {
        requests: requests.with_context(|| format!("wrk counted no requests: {output}"))?,
        per_second: per_second.with_context(|| format!("wrk told no rate: {output}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
Running 4s test @ http://127.70.1.1:15001/1k
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   163.12us  120.11us   4.01ms   95.12%
    Req/Sec   205.10k     5.21k  214.22k    71.00%
  822093 requests in 4.10s, 1.02GB read
Requests/sec: 200513.21
Transfer/sec:    254.11MB
";

    #[test]
    fn requests_and_their_rate_are_read() {
        let expected = Throughput {
            requests: 822_093,
            per_second: 200_513.21,
        };
        assert_eq!(parse(REPORT).unwrap(), expected);
    }

    #[test]
    fn failures_fail_the_run() {
        for failure in [
            "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
            "  Non-2xx or 3xx responses: 12\n",
        ] {
            let report = REPORT.replace("Requests/sec", &format!("{failure}Requests/sec"));
            let error = parse(&report).unwrap_err().to_string();
            assert!(error.contains(failure.trim()), "{error}");
        }
    }

    #[test]
    fn a_report_without_requests_is_refused() {
        assert!(parse("unable to connect to 127.0.0.1:1 Connection refused").is_err());
    }
}

//! What h2load prints.

use super::Throughput;
use anyhow::{Context, ensure};

/// Reads h2load's report. Any failed request is an error, and so are answers shorter than `answer_bytes` on average:
/// h2load does not look at trailers, so that a gRPC call that failed at once looks like one that went well.
pub fn parse(output: &str, answer_bytes: u64) -> anyhow::Result<Throughput> {
    let unread = || format!("this is no report of h2load: {output}");
    let line = |start: &str| {
        let mut lines = output.lines();
        lines.find_map(|line| line.strip_prefix(start))
    };
    let requests = line("requests: ").with_context(unread)?;
    let statuses = line("status codes: ").with_context(unread)?;
    let traffic = line("traffic: ").with_context(unread)?;

    let count = |name| counted(requests, name).with_context(unread);
    let (done, succeeded) = (count("done")?, count("succeeded")?);
    let failed = count("failed")? + count("errored")? + count("timeout")?;
    ensure!(
        failed == 0 && succeeded == done,
        "h2load saw failures: {requests}; {statuses}"
    );
    let bytes = traffic.rsplit_once(" data").and_then(|(before, _)| {
        let (_, exact) = before.rsplit_once('(')?;
        exact.trim_end_matches(')').parse::<u64>().ok()
    });
    let bytes = bytes.with_context(unread)?;
    ensure!(
        bytes >= done * answer_bytes,
        "answers were too short: {bytes} bytes in {done} answers of {answer_bytes} bytes"
    );
    let per_second = line("finished in ").and_then(|rest| {
        let (rate, _) = rest.split_once(", ")?.1.split_once(" req/s")?;
        rate.parse().ok()
    });
    Ok(Throughput {
        requests: done,
        per_second: per_second.with_context(unread)?,
    })
}

/// A number in a list such as `10 total, 9 done`.
fn counted(list: &str, name: &str) -> Option<u64> {
    let mut entries = list.split(", ").filter_map(|entry| entry.split_once(' '));
    let (number, _) = entries.find(|(_, of)| *of == name)?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
starting benchmark...
spawning thread #0: 1 total client(s). Timing-based test with 1s of warm-up time and 4s of main duration for measurements.

finished in 4.01s, 43210.25 req/s, 44.02MB/s
requests: 172841 total, 172941 started, 172841 done, 172841 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 172841 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 176.08MB (184637112) total, 1.98MB (2074092) headers (space savings 93.10%), 168.79MB (176989184) data
                     min         max         mean         sd        +/- sd
time for request:      512us     10.21ms      2.31ms       301us    80.01%
";

    #[test]
    fn requests_and_their_rate_are_read() {
        let expected = Throughput {
            requests: 172_841,
            per_second: 43_210.25,
        };
        assert_eq!(parse(REPORT, 1024).unwrap(), expected);
    }

    #[test]
    fn failures_fail_the_run() {
        let report = REPORT.replace("172841 succeeded, 0 failed", "172840 succeeded, 1 failed");
        let error = parse(&report, 1024).unwrap_err().to_string();
        assert!(error.contains("1 failed"), "{error}");
    }

    #[test]
    fn short_answers_fail_the_run() {
        let error = parse(REPORT, 1025).unwrap_err().to_string();
        assert!(error.contains("too short"), "{error}");
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(parse("cannot connect", 0).is_err());
    }
}

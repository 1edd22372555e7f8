//! What callgrind prints about a program, and what that says about one iteration. Pure.

/// The instructions of a whole run: `==4711== Collected : 1234` on callgrind's standard error.
pub fn collected(stderr: &str) -> Option<u64> {
    stderr.lines().find_map(|line| {
        let (label, count) = line.strip_prefix("==")?.split_once(':')?;
        let (_, label) = label.split_once("== ")?;
        (label.trim_end() == "Collected").then(|| count.trim().parse().ok())?
    })
}

/// The cost of one iteration, from the cost of a run of so many iterations and of a run of twice as many: what
/// both runs have in common, the start and the end of the program, cancels out.
pub fn per_iteration(once: u64, twice: u64, iterations: u32) -> f64 {
    (twice as f64 - once as f64) / f64::from(iterations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_what_valgrind_says() {
        let stderr = "\
==4711== Callgrind, a call-graph generating cache profiler
==4711== Command: instructions --run route
==4711== Events    : Ir
==4711== Collected : 7182818284
==4711== 
==4711== I   refs:      7,182,818,284
";
        assert_eq!(collected(stderr), Some(7_182_818_284));
    }

    #[test]
    fn what_the_program_says_itself_is_no_count() {
        for stderr in [
            "",
            "Collected : 1",
            "==1== Collected : many",
            "==1== Not Collected : 1",
        ] {
            assert_eq!(collected(stderr), None, "{stderr:?}");
        }
    }

    #[test]
    fn start_and_end_of_the_program_cancel_out() {
        let run = |iterations: u64| 1_000_000 + 250 * iterations;
        assert_eq!(per_iteration(run(100), run(200), 100), 250.0);
    }

    #[test]
    fn a_cost_below_the_noise_may_come_out_negative() {
        assert_eq!(per_iteration(1_010, 1_000, 10), -1.0);
    }
}

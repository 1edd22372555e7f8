//! Scenarios as tests that cargo runs, lists and filters.

use crate::need::Need;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::{env, process::ExitCode};

/// Scenarios that run at once, unless `--test-threads` says otherwise: each is several processes.
const DEFAULT_THREADS: usize = 2;

/// The scenarios of one test binary.
#[derive(Default)]
pub struct Suite {
    trials: Vec<Trial>,
}

impl Suite {
    /// A suite without scenarios.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a scenario and what it needs beside the workspace.
    pub fn test(
        mut self,
        name: &'static str,
        needs: &'static [Need],
        body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        self.trials.push(Trial::ignorable_test(name, move || {
            for need in needs {
                if let Err(missing) = need.check() {
                    return absent(format!("needs {need}: {missing}"));
                }
            }
            match body() {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(Failed::from(format!("{error:?}"))),
            }
        }));
        self
    }

    /// Runs what the command line asks for.
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads.get_or_insert(DEFAULT_THREADS);
        libtest_mimic::run(&arguments, self.trials).exit_code()
    }
}

/// A missing component is a reason to ignore a scenario, except where every scenario is required.
fn absent(reason: String) -> Result<Completion, Failed> {
    if env::var("WEFT_TEST_REQUIRE").is_ok_and(|value| value == "all") {
        return Err(Failed::from(format!(
            "{reason} (WEFT_TEST_REQUIRE=all makes this a failure)"
        )));
    }
    Ok(Completion::ignored_with(reason))
}

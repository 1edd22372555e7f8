//! The machine that the numbers come from.

use serde_json::{Value, json};
use std::{fs, thread};

/// Cores, their model, memory and kernel.
pub(crate) fn describe() -> anyhow::Result<Value> {
    let field = |file: &str, name: &str| -> anyhow::Result<Option<String>> {
        let text = fs::read_to_string(file)?;
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines
            .filter(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned());
        Ok(values.next())
    };
    Ok(json!({
        "cpu": field("/proc/cpuinfo", "model name")?,
        "cores": thread::available_parallelism()?,
        "memory": field("/proc/meminfo", "MemTotal")?,
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
    }))
}

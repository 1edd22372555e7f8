//! The proxy's own log: JSON or text on standard error, its level changeable while it runs.

use std::sync::Arc;
use tracing_subscriber::{
    Layer, filter::Targets, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Changes the level of a running proxy. Cloning shares it.
#[derive(Clone)]
pub struct Control(Arc<dyn Fn(Targets) -> Result<(), reload::Error> + Send + Sync>);

/// Why a level was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// The text is not a filter.
    #[error(
        "log level {given:?} is not valid ({reason}); use error, warn, info, debug or trace, or directives such as `info,weft_proxy::xds=debug`"
    )]
    Invalid {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A subscriber of somebody else is installed.
    #[error("the log is not ours to change: {0}")]
    NotInstalled(String),
}

/// Installs the log for this process.
pub fn install(level: &str, format: Format) -> Result<Control, LevelError> {
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Text => lines.boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| LevelError::NotInstalled(error.to_string()))?;
    Ok(Control(Arc::new(move |filter| handle.reload(filter))))
}

impl Control {
    /// Sets the level from now on.
    pub fn set(&self, level: &str) -> Result<(), LevelError> {
        (self.0)(parse(level)?).map_err(|error| LevelError::NotInstalled(error.to_string()))
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

fn parse(level: &str) -> Result<Targets, LevelError> {
    level
        .parse::<Targets>()
        .map_err(|error| LevelError::Invalid {
            given: level.to_owned(),
            reason: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused_with_the_ones_there_are() {
        let error = parse("weft=loud").unwrap_err().to_string();
        assert!(
            error.contains("weft=loud") && error.contains("debug"),
            "{error}"
        );
    }
}

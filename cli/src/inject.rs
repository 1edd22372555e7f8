//! `weft inject`: gives the pods of manifests their sidecars without a cluster, as the webhook would.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use weft_control_plane::inject::{
    Settings,
    manifest::{self, Injected},
};

/// The flags of `weft inject`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The manifest, YAML of any number of documents or JSON; `-` for standard input. May be given more
    /// than once.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The settings of the injector, as the control plane's --injector-config has them.
    #[arg(long, value_name = "FILE")]
    injector_config: Option<PathBuf>,
    /// The image of the proxy, instead of that of the settings.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Host and port of the control plane, instead of those of the settings.
    #[arg(long, value_name = "HOST:PORT")]
    xds_address: Option<String>,
    /// The version of the cluster, which decides about native sidecars.
    #[arg(long, value_name = "VERSION", default_value = "1.29", value_parser = version)]
    kubernetes_version: (u32, u32),
}

const STDIN: &str = "-";

/// Prints the manifests with sidecars, and on standard error what became of each object. A manifest that
/// cannot get its sidecars fails all: half of them would be half of a mesh.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let settings = settings(&args)?;
    let native = manifest::has_native_sidecars(args.kubernetes_version);
    let mut texts = Vec::new();
    for file in &args.files {
        let name = if is_stdin(file) {
            Path::new("standard input")
        } else {
            file
        };
        let manifest = read(file).with_context(|| format!("cannot read {}", name.display()))?;
        let Injected { text, objects } = manifest::inject_all(&manifest, native, &settings)
            .with_context(|| name.display().to_string())?;
        let mut stderr = io::stderr().lock();
        for object in objects {
            writeln!(stderr, "{object}")?;
        }
        texts.push(text);
    }
    texts.retain(|text| !text.is_empty());
    io::stdout()
        .lock()
        .write_all(texts.join("---\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn settings(args: &Args) -> anyhow::Result<Settings> {
    let mut settings = match &args.injector_config {
        None => Settings::default(),
        Some(path) => {
            let name = || format!("--injector-config {}", path.display());
            let text = fs::read_to_string(path).with_context(name)?;
            Settings::parse(&text).with_context(name)?
        }
    };
    if let Some(image) = &args.image {
        settings.image.clone_from(image);
    }
    if let Some(address) = &args.xds_address {
        settings.xds_address.clone_from(address);
    }
    settings.check().context("--image, --xds-address")?;
    Ok(settings)
}

fn read(file: &Path) -> io::Result<String> {
    if is_stdin(file) {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(file)
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == STDIN
}

/// `1.29`, `v1.29.3`.
fn version(text: &str) -> Result<(u32, u32), String> {
    let mut parts = text.trim_start_matches('v').split('.');
    let mut number = || parts.next()?.parse().ok();
    let version = number().zip(number());
    version.ok_or_else(|| format!("{text:?} is no version of Kubernetes such as 1.29"))
}

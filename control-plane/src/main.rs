//! `weft-control-plane`: see [`weft_control_plane::cli`].

fn main() -> std::process::ExitCode {
    weft_control_plane::cli::run(std::env::args_os())
}

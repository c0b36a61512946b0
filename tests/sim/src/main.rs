//! `quorate-sim`: see [`quorate_sim`].

use clap::Parser;

fn main() -> anyhow::Result<std::process::ExitCode> {
    quorate_sim::cli::Args::parse().run()
}

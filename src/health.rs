//! `quorate health URL`: the health check of a container that holds nothing but this binary.

use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `quorate health`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to ask, such as http://127.0.0.1:2379/readyz
    url: String,
    /// Seconds to wait for the answer
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// Asks once; success if the answer is 2xx. What the server says goes to standard output, for `docker inspect`.
pub(crate) async fn run(args: Args) -> ExitCode {
    match ask(&args).await {
        Ok((healthy, text)) => {
            println!("{}", text.trim_end());
            if healthy {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("{}: {error:#}", args.url);
            ExitCode::FAILURE
        }
    }
}

async fn ask(args: &Args) -> anyhow::Result<(bool, String)> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(args.timeout))
        .build()?;
    let response = client.get(&args.url).send().await?;
    let status = response.status();
    let body = response.text().await?;
    Ok((status.is_success(), format!("{status}\n{body}")))
}

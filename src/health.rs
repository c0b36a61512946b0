//! `quorate health URL`: the health check of a container that holds nothing but this binary.

use std::process::ExitCode;
use std::time::Duration;

use reqwest::Url;

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
    let Some(url) = web_address(&args.url) else {
        eprintln!("{:?} is not a URL such as http://127.0.0.1:2379/readyz", args.url);
        return ExitCode::FAILURE;
    };
    match ask(url, args.timeout).await {
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

/// The URL that a text is, if it is one that can be asked. `localhost:2379` is one, with the scheme `localhost`.
fn web_address(text: &str) -> Option<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
}

async fn ask(url: Url, timeout_seconds: u64) -> anyhow::Result<(bool, String)> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(timeout_seconds))
        .build()?;
    let response = client.get(url).send().await?;
    let status = response.status();
    let body = response.text().await?;
    Ok((status.is_success(), format!("{status}\n{body}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_url_of_the_web_is_asked() {
        assert!(web_address("http://127.0.0.1:2379/readyz").is_some());
        for text in ["127.0.0.1:2379", "localhost:2379", "/readyz", "", "http://"] {
            assert!(web_address(text).is_none(), "{text}");
        }
    }
}

//! A person with a browser, as far as registering a name needs one: it opens the page, fills in the form that is
//! there, sends it to where the form says, and follows the redirect.

use std::time::Duration;

/// Longest that a person waits for a page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the page waits before it connects again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// How an attempt to register a name ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The page confirmed it.
    Registered,
    /// Somebody has it already.
    Taken,
    /// Certainly not stored, or perhaps, or no page at all: what a person would try again.
    TryAgain(String),
}

/// A browser that looks at one site.
pub(crate) struct Browser {
    site: String,
    http: reqwest::Client,
}

struct Form {
    action: String,
    field: String,
}

impl Browser {
    /// A browser for `http://host:port`.
    pub(crate) fn new(site: String) -> Browser {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(PAGE_TIMEOUT)
            .build()
            .unwrap();
        Browser { site, http }
    }

    /// The page at a path: status and HTML.
    pub(crate) async fn page(&self, path: &str) -> Result<(u16, String), String> {
        let answer = self
            .http
            .get(format!("{}{path}", self.site))
            .send()
            .await
            .map_err(|e| format!("{e:?}"))?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|e| format!("{e:?}"))?))
    }

    /// Registers a name through the page's form.
    pub(crate) async fn register(&self, name: &str) -> Outcome {
        match self.try_register(name).await {
            Ok(outcome) => outcome,
            Err(problem) => Outcome::TryAgain(problem),
        }
    }

    async fn try_register(&self, name: &str) -> Result<Outcome, String> {
        let (status, html) = self.page("/").await?;
        if status != 200 {
            return Err(format!("the page answers {status}"));
        }
        let form = post_form(&html);
        let sent = self
            .http
            .post(format!("{}{}", self.site, form.action))
            .form(&[(form.field.as_str(), name)]);
        let answer = sent.send().await.map_err(|e| format!("{e:?}"))?;
        match answer.status().as_u16() {
            303 => {}
            409 => return Ok(Outcome::Taken),
            status => {
                return Err(format!(
                    "the form's answer is {status}: {}",
                    answer.text().await.unwrap_or_default()
                ));
            }
        }
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        let (status, html) = self.page(&location).await?;
        let notice = html
            .split("role=\"status\"")
            .nth(1)
            .and_then(|rest| rest.split("</p>").next());
        let confirmed =
            |text: &str| text.contains(&format!("<bdi>{name}</bdi>")) && text.contains("is registered");
        if status == 200 && notice.is_some_and(confirmed) {
            return Ok(Outcome::Registered);
        }
        Err(format!("no confirmation at {location}: {status} {html}"))
    }

    /// All names that the pages list, newest first.
    pub(crate) async fn names(&self) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        let mut path = "/api/names?limit=100".to_owned();
        loop {
            let (status, text) = self.page(&path).await?;
            if status != 200 {
                return Err(format!("{path} answers {status}: {text}"));
            }
            let list: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
            let entries = list["names"].as_array().ok_or("no names in the answer")?;
            names.extend(
                entries
                    .iter()
                    .filter_map(|entry| entry["name"].as_str())
                    .map(str::to_owned),
            );
            match list["next"].as_str() {
                Some(cursor) => path = format!("/api/names?limit=100&cursor={cursor}"),
                None => return Ok(names),
            }
        }
    }
}

/// The page's script, as far as new names go: it listens from where the page ends, and comes back after a lost
/// connection with the last thing that it heard of.
pub(crate) struct Listener {
    browser: Browser,
    http: reqwest::Client,
    /// The revision of the page, and then of the last event.
    after: String,
    open: Option<(reqwest::Response, String)>,
}

impl Browser {
    /// Opens the newest page and listens for what comes.
    pub(crate) async fn listen(&self) -> Listener {
        let mut listener = Listener {
            browser: Browser::new(self.site.clone()),
            // Without a limit of time: the answer has no end.
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            after: self.revision().await.unwrap(),
            open: None,
        };
        listener.connect().await.unwrap();
        listener
    }

    /// The revision of the newest page, which has the script.
    async fn revision(&self) -> Result<String, String> {
        let (status, html) = self.page("/").await?;
        let value = html
            .split("data-revision=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        match value {
            Some(revision) if html.contains("<script src=\"/assets/live.js") => Ok(revision.to_owned()),
            _ => Err(format!("{status}: the page is not one that listens:\n{html}")),
        }
    }
}

impl Listener {
    async fn connect(&mut self) -> Result<(), String> {
        let url = format!("{}/events", self.browser.site);
        let request = self.http.get(url).header("last-event-id", &self.after);
        let response = request.send().await.map_err(|e| format!("{e:?}"))?;
        if response.status() != 200 {
            return Err(format!("/events answers {}", response.status()));
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        self.open = Some((response, String::new()));
        Ok(())
    }

    /// The names of the next event, however often the connection must be made anew for it.
    pub(crate) async fn next(&mut self) -> Vec<String> {
        loop {
            match self.heard() {
                Some(names) if !names.is_empty() => return names,
                // The instance does not know it all: the page takes the list anew and goes on from there.
                Some(_) => {
                    self.open = None;
                    self.after = self.browser.revision().await.unwrap();
                }
                None => {}
            }
            let chunk = match &mut self.open {
                Some((response, _)) => response.chunk().await,
                None => Ok(None),
            };
            match (chunk, &mut self.open) {
                (Ok(Some(bytes)), Some((_, text))) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                _ => {
                    self.open = None;
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                    let _ = self.connect().await;
                }
            }
        }
    }

    /// Takes one event from what has been read: its names, none if something was missed.
    fn heard(&mut self) -> Option<Vec<String>> {
        let (_, text) = self.open.as_mut()?;
        while let Some((event, rest)) = text.split_once("\n\n") {
            let (event, rest) = (event.to_owned(), rest.to_owned());
            *text = rest;
            let values = |field: &str| {
                let lines = event.lines().filter_map(|line| line.split_once(": "));
                lines
                    .filter(|(name, _)| *name == field)
                    .map(|(_, value)| value)
                    .collect::<Vec<_>>()
            };
            if values("event") == ["missed"] {
                return Some(Vec::new());
            }
            if values("event") == ["names"] {
                self.after = values("id").concat();
                let rows = values("data").join("\n");
                let names = rows.split("<td class=\"name\">").skip(1);
                let names = names.filter_map(|cell| cell.split("<bdi>").nth(1)?.split("</bdi>").next());
                return Some(names.map(str::to_owned).collect());
            }
        }
        None
    }
}

/// The form of a page that is sent by POST: where to, and the name of its text field.
fn post_form(html: &str) -> Form {
    let form = html
        .split("<form")
        .skip(1)
        .map(|rest| rest.split("</form>").next().unwrap_or(rest))
        .find(|form| attribute(form, "method").is_some_and(|method| method.eq_ignore_ascii_case("post")))
        .unwrap_or_else(|| panic!("the page has no form to post:\n{html}"));
    let input = form
        .split("<input")
        .nth(1)
        .unwrap_or_else(|| panic!("the form has no field:\n{form}"));
    Form {
        action: attribute(form, "action").expect("the form has an action"),
        field: attribute(input, "name").expect("the field has a name"),
    }
}

/// The value of an attribute in the tag with which the text begins.
fn attribute(text: &str, name: &str) -> Option<String> {
    let tag = text.split('>').next()?;
    let value = tag.split(&format!(" {name}=\"")).nth(1)?;
    Some(value.split('"').next()?.to_owned())
}

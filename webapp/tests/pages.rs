//! The pages over a real listener: the way of a person without JavaScript.

mod common;

use chrono::TimeDelta;
use common::store::Store;
use common::{Web, header, read};
use reqwest::Method;

async fn start() -> (Store, Web) {
    let store = Store::start().await;
    let web = Web::start(&store, "web-1").await;
    (store, web)
}

/// The target of the link with this text.
fn link(page: &str, text: &str) -> Option<String> {
    let before = &page[..page.find(&format!(">{text}</a>"))?];
    let href = &before[before.rfind("href=\"")? + 6..];
    Some(href[..href.find('"')?].to_owned())
}

/// The names of the list, in order.
fn listed(page: &str) -> Vec<String> {
    let rows = page.split("<td class=\"name\">").skip(1);
    rows.map(|row| {
        row[row.find("<bdi>").expect("a page of this app") + 5
            ..row.find("</bdi>").expect("a page of this app")]
            .to_owned()
    })
    .collect()
}

#[tokio::test]
async fn post_redirect_get() {
    let (_store, web) = start().await;
    let (status, page) = web.page("/").await;
    assert_eq!(status, 200);
    assert!(page.contains("No names yet"));
    let body = &page[page.find("<body>").unwrap()..];
    assert!(
        body.find("<strong>web-1</strong>") < body.find("<main"),
        "the host stands at the top"
    );

    let response = web.submit("Ada Lovelace").await;
    assert_eq!(response.status(), 303);
    let location = header(&response, "location").to_owned();
    assert_eq!(location, "/?registered=Ada%20Lovelace");
    web.clock.advance(TimeDelta::minutes(3));
    let (status, page) = web.page(&location).await;
    assert_eq!(status, 200);
    assert!(page.contains("</a> is registered: <time"));
    assert_eq!(listed(&page), ["Ada Lovelace"]);
    assert!(page.contains("2026-11-20T10:00:00.000Z") && page.contains("3 minutes ago"));
    assert!(page.contains("1 registered"));
}

#[tokio::test]
async fn a_link_cannot_confirm_what_is_not_so() {
    let (_store, web) = start().await;
    let (status, page) = web.page("/?registered=Mallory&utm_source=x").await;
    assert_eq!(status, 200);
    assert!(!page.contains("Mallory") && !page.contains("is registered:"));
    let (status, page) = web.page("/?registered=%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert_eq!(status, 200);
    assert!(!page.contains("alert"));
}

#[tokio::test]
async fn a_conflict_says_since_when_and_by_whom() {
    let (store, web) = start().await;
    web.submit("Ada").await;
    let other = Web::start(&store, "web-2").await;
    other.clock.advance(TimeDelta::hours(2));
    let (status, page) = read(other.submit("ADA").await).await;
    assert_eq!(status, 409);
    assert!(
        page.contains("“ADA” is taken") && page.contains("was registered 2 hours ago"),
        "{page}"
    );
    assert!(page.contains("2026-11-20T10:00:00.000Z") && page.contains("<bdi>web-1</bdi>"));
    assert!(page.contains("<strong>web-2</strong>"), "the answering host");
    assert!(page.contains("value=\"ADA\""), "what was typed is kept");
}

#[tokio::test]
async fn an_invalid_name_stays_in_the_field() {
    let (store, web) = start().await;
    let typed = "x\"><script>".repeat(10);
    let (status, page) = read(web.submit(&typed).await).await;
    assert_eq!(status, 422);
    assert!(
        page.contains("A name has at most 64 characters, this one has 110."),
        "{page}"
    );
    assert!(page.contains("value=\"x&#34;&#62;&#60;script&#62;"), "{page}");
    assert!(!page.contains("<script"));
    let (status, page) = read(web.submit("").await).await;
    assert_eq!(status, 422);
    assert!(page.contains("A name needs at least one character."));
    assert!(store.values("").is_empty());
}

#[tokio::test]
async fn text_is_only_ever_text() {
    let store = Store::start().await;
    let web = Web::start(&store, "<i>web</i>&").await;
    let names = [
        "<script>alert(1)</script>",
        "\"onmouseover=x",
        "'><img src=x onerror=y>",
        "{{ name }}",
        "a&amp;b",
    ];
    for name in names {
        assert_eq!(web.submit(name).await.status(), 303, "{name}");
        let conflict = read(web.submit(name).await).await;
        assert_eq!(conflict.0, 409);
        let look_up = web
            .request(Method::GET, "/names")
            .query(&[("name", name)])
            .send()
            .await
            .unwrap();
        let entry = web.page(header(&look_up, "location")).await;
        assert_eq!(entry.0, 200);
        for page in [conflict.1, entry.1, web.page("/").await.1] {
            for part in ["<script>", "<img", "<i>", "\"onmouseover", " onerror=y>"] {
                assert!(!page.contains(part), "{part} in {page}");
            }
        }
    }
    let stored = web.json("/api/names").await.1;
    let mut stored: Vec<_> = stored["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    stored.sort_unstable();
    let mut expected = names;
    expected.sort_unstable();
    assert_eq!(stored, expected, "kept as they are");
    let (_, page) = web.page("/").await;
    for name in listed(&page) {
        assert!(!name.contains(['<', '>', '"', '\'']), "{name}");
    }
    assert!(page.contains("a&#38;amp;b"), "an entity in a name is text, too");
}

#[tokio::test]
async fn look_up_by_form_and_by_page() {
    let (_store, web) = start().await;
    web.submit("Ada/Æ").await;
    let response = web.get("/names?name=ADA%2F%C3%A6").await;
    assert_eq!(
        (response.status().as_u16(), header(&response, "location")),
        (303, "/names/ADA%2F%C3%A6")
    );
    let (status, page) = web.page("/names/ADA%2F%C3%A6").await;
    assert_eq!(status, 200);
    assert!(page.contains("<bdi>Ada/Æ</bdi>") && page.contains("2026-11-20T10:00:00.000Z"));
    let (status, page) = web.page("/names/Grace").await;
    assert_eq!(status, 404);
    assert!(page.contains("“Grace” is not registered") && page.contains("value=\"Grace\""));
    assert_eq!(
        header(&web.get("/names").await, "location"),
        "/",
        "a reload of a form's answer leads home"
    );
    assert_eq!(web.get("/names?name=").await.status(), 422);
}

#[tokio::test]
async fn pages_lead_to_the_oldest_and_back() {
    let (store, web) = start().await;
    for n in 0..50 {
        // Up to four in one millisecond.
        if n % 4 == 0 {
            web.clock.advance(TimeDelta::milliseconds(1));
        }
        assert_eq!(web.register(&format!("name {n}")).await.0, 201);
    }
    let mut pages = vec![web.page("/").await.1];
    assert!(pages[0].contains("50 registered") && link(&pages[0], "← Newer").is_none());
    while let Some(older) = link(pages.last().unwrap(), "Older →") {
        pages.push(web.page(&older).await.1);
    }
    let down: Vec<_> = pages.iter().map(|page| listed(page)).collect();
    assert_eq!(down.iter().map(Vec::len).collect::<Vec<_>>(), [20, 20, 10]);
    store.take_ranges();
    let mut page = pages.pop().unwrap();
    for expected in [&down[1], &down[0]] {
        page = web.page(&link(&page, "← Newer").unwrap()).await.1;
        assert_eq!(&listed(&page), expected);
        assert!(link(&page, "Older →").is_some());
    }
    assert!(
        store.take_ranges().iter().all(|keys| *keys <= 21),
        "the way back reads pages only, too"
    );
    assert!(link(&page, "← Newer").is_none());
    let (status, page) = web.page("/?cursor=nonsense").await;
    assert_eq!(status, 400);
    assert!(page.contains("This is not a cursor of this list"));
}

#[tokio::test]
async fn bad_forms() {
    let (store, web) = start().await;
    let form = "application/x-www-form-urlencoded";
    for (kind, body, status, part) in [
        (form, "name=%FF", 400, "not UTF-8"),
        (form, "name=%4", 400, "percent"),
        (form, "name=a&admin=1", 400, "unknown field &#34;admin&#34;"),
        (form, "name=a&name=b", 400, "twice"),
        ("text/plain", "name=a", 415, form),
        (form, "", 422, "at least one character"),
    ] {
        let request = web
            .request(Method::POST, "/names")
            .header("content-type", kind)
            .body(body);
        let (got, page) = read(request.send().await.unwrap()).await;
        assert_eq!(got, status, "{body}");
        assert!(page.contains(part), "{body}: {page}");
    }
    let large = web
        .request(Method::POST, "/names")
        .header("content-type", form)
        .body("x".repeat(16 * 1024 + 1));
    assert_eq!(large.send().await.unwrap().status(), 413);
    let foreign = web
        .request(Method::POST, "/names")
        .header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.form(&[("name", "a")]).send().await.unwrap().status(), 403);
    assert!(store.values("").is_empty());
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let (_store, web) = start().await;
    for path in [
        "/",
        "/names/x",
        "/nowhere",
        "/api/names",
        "/assets/style.css",
        "/livez",
        "/api/names?limit=0",
    ] {
        let response = web.get(path).await;
        let policy = header(&response, "content-security-policy");
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&response, "referrer-policy"), "no-referrer", "{path}");
        assert!(!header(&response, "content-type").is_empty(), "{path}");
    }
    let (_, page) = web.page("/").await;
    assert!(!page.contains("<style") && !page.contains("style=\""));
    // Nothing inline: every script is a file of this app's.
    for script in page.split("<script").skip(1) {
        assert!(
            script.starts_with(" src=\"/assets/") && script.contains("\" defer></script>"),
            "{script}"
        );
    }
    let style = web.get(&link_to_style(&page)).await;
    assert_eq!(
        (style.status().as_u16(), header(&style, "content-type")),
        (200, "text/css; charset=utf-8")
    );
}

fn link_to_style(page: &str) -> String {
    let href = &page[page
        .find("rel=\"stylesheet\" href=\"")
        .expect("a page of this app")
        + 23..];
    href[..href.find('"').expect("a page of this app")].to_owned()
}

//! The stylesheet, the script and the icon: files of their own, because the page allows nothing inline, embedded in the binary.

use axum::response::IntoResponse;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

const STYLE: &str = include_str!("../assets/style.css");
const SCRIPT: &str = include_str!("../assets/live.js");
const ICON: &str = include_str!("../assets/icon.svg");

pub(crate) const STYLE_PATH: &str = "/assets/style.css";
pub(crate) const SCRIPT_PATH: &str = "/assets/live.js";
pub(crate) const ICON_PATH: &str = "/assets/icon.svg";

/// How long a browser may keep an asset. Short, and the link carries the content's hash: behind one balancer there may
/// be two versions for a while.
const CACHE: &str = "public, max-age=3600";

/// The link to the stylesheet, different for every content.
pub(crate) fn style_link() -> String {
    const HASH: u64 = fnv1a(STYLE.as_bytes());
    format!("{STYLE_PATH}?v={HASH:016x}")
}

/// The link to the script.
pub(crate) fn script_link() -> String {
    const HASH: u64 = fnv1a(SCRIPT.as_bytes());
    format!("{SCRIPT_PATH}?v={HASH:016x}")
}

pub(crate) async fn script() -> impl IntoResponse {
    (
        [
            (CONTENT_TYPE, "text/javascript; charset=utf-8"),
            (CACHE_CONTROL, CACHE),
        ],
        SCRIPT,
    )
}

pub(crate) async fn style() -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, CACHE)],
        STYLE,
    )
}

pub(crate) async fn icon() -> impl IntoResponse {
    ([(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, CACHE)], ICON)
}

/// The 64-bit FNV-1a hash, at compile time.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

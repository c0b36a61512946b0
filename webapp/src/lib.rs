//! The name-registration web app: a person opens the page, registers a name, and sees all names with their times.
//!
//! Promises: of two registrations of one name exactly one wins and the other is told when it was taken; what was
//! confirmed is stored by a majority; what is not known is said to be not known. Everything works without JavaScript,
//! and every text is rendered as text. Leaves to others: storage and agreement (the store, reached through
//! `kv_client`), spreading requests over several instances (the balancer), TLS, and authentication.
//!
//! # Addresses
//!
//! | method and path | answer |
//! | --- | --- |
//! | `GET /` | the page: form, newest names; `?cursor=` pages on; `?registered=NAME` confirms, after looking NAME up |
//! | `POST /names` (form field `name`) | 303 to `/?registered=NAME`, or a page that says why not |
//! | `GET /names?name=NAME` | 303 to the page of that name |
//! | `GET /names/NAME` | the page of one name |
//! | `POST /api/names` `{"name": NAME}` | 201 and the entry, `Location` set |
//! | `GET /api/names?limit=&cursor=` | 200 `{"names": [entry…], "next": cursor or null}`; limit 1 to 100, default 20 |
//! | `GET /api/names/NAME` | 200 and the entry |
//! | `GET /events?after=REVISION` | the names registered after that revision, as they come: server-sent events |
//! | `GET /livez`, `GET /readyz` | health, see [`health`] |
//! | `GET /metrics` | request counts in Prometheus' text format |
//!
//! An entry is `{"name", "registered_at", "host"}`; `registered_at` is RFC 3339 in UTC with milliseconds.
//!
//! # Failures
//!
//! The API answers `{"error": code, "message": text}`, the page the same in words.
//!
//! | status | code | when |
//! | --- | --- | --- |
//! | 400 | `bad_json`, `bad_fields` | not JSON; an unknown, missing, repeated or mistyped field, which is named |
//! | 400 | `bad_form`, `bad_query`, `bad_path` | broken escapes, not UTF-8, unknown or repeated fields |
//! | 400 | `bad_limit`, `bad_cursor` | not a number from 1 to 100; not a cursor of this list |
//! | 400 | `body_broken` | the connection broke off within the body |
//! | 403 | `cross_site` | a browser says that another site sent the form |
//! | 404 | `not_registered`, `no_such_page` | nobody has the name; no such path |
//! | 405 | `method_not_allowed` | `Allow` names the methods |
//! | 408 | `body_too_slow` | the body took longer than 10 s |
//! | 409 | `taken` | the earlier entry is in `entry` |
//! | 413 | `body_too_large` | more than 16 KiB |
//! | 415 | `unsupported_media_type` | the API takes `application/json`, the page `application/x-www-form-urlencoded` |
//! | 422 | `invalid_name` | see [`name`] |
//! | 500 | `corrupt_entry` | something else wrote under the app's keys |
//! | 503 | `no_quorum`, `store_refused`, `busy` | nothing was stored |
//! | 504 | `timeout` | a read took too long; nothing has changed |
//! | 504 | `outcome_unknown` | the name may have been stored: look it up |

pub mod announce;
mod api;
mod app;
mod assets;
mod body;
pub mod cli;
pub mod clock;
pub mod entry;
mod events;
pub mod health;
pub mod keys;
mod layers;
pub mod live;
mod meter;
pub mod name;
mod pages;
mod problem;
pub mod registry;
pub mod server;
mod urls;

pub use app::{App, REQUESTS_MAX};
pub use body::BODY_BYTES_MAX;

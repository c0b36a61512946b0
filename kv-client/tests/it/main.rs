//! Tests of the client and its command line against servers that fail as they are told.

#![allow(clippy::unwrap_used, reason = "a test that panics fails")]

mod commands;
mod exit_codes;
mod formats;
mod oracle;
mod process;
mod recover;
mod retries;
mod support;
mod tls;
mod watching;

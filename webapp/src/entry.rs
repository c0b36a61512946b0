//! A registered name: what is stored and what is shown.

use crate::clock::rfc3339;
use crate::keys::Position;
use crate::name::Name;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};

/// One registered name, as the JSON API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The name as its owner typed it.
    pub name: String,
    /// When the web host took it, in whole milliseconds; RFC 3339 in JSON.
    #[serde(serialize_with = "as_rfc3339")]
    pub registered_at: DateTime<Utc>,
    /// The host name of the web app that took it.
    pub host: String,
}

/// An entry as it is stored: with the random id of its registration, by which the web app that wrote it knows it again
/// after an answer was lost. The id is of no use outside and is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// What is shown.
    pub entry: Entry,
    /// The registration's id.
    pub id: u128,
}

/// The stored bytes are not an entry.
#[derive(Debug, thiserror::Error)]
#[error("a stored entry cannot be read: {0}")]
pub struct BadEntry(String);

/// The JSON of the stored form. Unknown fields are ignored: a newer version may have written more.
#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    registered_at: String,
    host: String,
    id: String,
}

impl StoredEntry {
    /// A new registration. `now` is cut to milliseconds; a clock before 1970 counts as 1970.
    pub fn new(name: &Name, now: DateTime<Utc>, host: &str, id: u128) -> StoredEntry {
        let unix_ms = now.timestamp_millis().max(0);
        let registered_at = DateTime::from_timestamp_millis(unix_ms).unwrap_or(DateTime::UNIX_EPOCH);
        let entry = Entry {
            name: name.shown().to_owned(),
            registered_at,
            host: host.to_owned(),
        };
        StoredEntry { entry, id }
    }

    /// Its place in the order of time.
    pub fn position(&self) -> Position {
        let unix_ms = u64::try_from(self.entry.registered_at.timestamp_millis()).unwrap_or(0);
        Position { unix_ms, id: self.id }
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let record = Record {
            name: self.entry.name.clone(),
            registered_at: rfc3339(self.entry.registered_at),
            host: self.entry.host.clone(),
            id: format!("{:032x}", self.id),
        };
        serde_json::to_vec(&record).expect("four strings always make JSON")
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// [`BadEntry`] if something other than this app wrote them.
    pub fn decode(bytes: &[u8]) -> Result<StoredEntry, BadEntry> {
        let record: Record = serde_json::from_slice(bytes).map_err(|error| BadEntry(error.to_string()))?;
        let registered_at = DateTime::parse_from_rfc3339(&record.registered_at)
            .map_err(|error| BadEntry(format!("registered_at: {error}")))?
            .to_utc();
        let id = u128::from_str_radix(&record.id, 16).map_err(|error| BadEntry(format!("id: {error}")))?;
        Ok(StoredEntry {
            entry: Entry {
                name: record.name,
                registered_at,
                host: record.host,
            },
            id,
        })
    }
}

fn as_rfc3339<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn sample() -> StoredEntry {
        let now =
            DateTime::from_timestamp_millis(1_795_169_877_005).unwrap() + TimeDelta::nanoseconds(999_999);
        StoredEntry::new(&Name::parse("Ada").unwrap(), now, "web-1", 7)
    }

    #[test]
    fn stored_form_is_readable_json_and_reads_back() {
        let stored = sample();
        let text = String::from_utf8(stored.encode()).unwrap();
        assert_eq!(
            text,
            r#"{"name":"Ada","registered_at":"2026-11-20T10:17:57.005Z","host":"web-1","id":"00000000000000000000000000000007"}"#
        );
        assert_eq!(StoredEntry::decode(text.as_bytes()).unwrap(), stored);
    }

    #[test]
    fn shown_form_has_no_id() {
        assert_eq!(
            serde_json::to_string(&sample().entry).unwrap(),
            r#"{"name":"Ada","registered_at":"2026-11-20T10:17:57.005Z","host":"web-1"}"#
        );
    }

    #[test]
    fn a_clock_before_1970_counts_as_1970() {
        let before = DateTime::from_timestamp_millis(-5).unwrap();
        let stored = StoredEntry::new(&Name::parse("Ada").unwrap(), before, "web-1", 7);
        assert_eq!(stored.position(), Position { unix_ms: 0, id: 7 });
    }

    #[test]
    fn what_is_not_an_entry_is_an_error() {
        for bytes in [
            &b""[..],
            b"{}",
            b"\xff",
            br#"{"name":"a","registered_at":"soon","host":"h","id":"1"}"#,
        ] {
            assert!(StoredEntry::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}

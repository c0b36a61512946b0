//! Programs that announce themselves in the store: the keys below `services/<name>/`, each with the JSON of one
//! instance, whose `address` is its URL. One read, and then a watch from its revision: what comes and goes is known
//! as soon as the store knows. While the store does not answer, the last list stays.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kv_client::{Client, Error, WatchItem};
use kv_proto::etcdserverpb::{RangeRequest, WatchCreateRequest};
use kv_proto::mvccpb::{Event, KeyValue, event::EventType};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::seed::Seed;

/// Instances that are known at most. Further ones are left out, with a warning, until the list is read anew.
const INSTANCES_MAX: usize = 1024;
/// Pause before the list is read anew.
const PAUSE: Duration = Duration::from_millis(500);
/// The port of an address without one.
const HTTP_PORT: u16 = 80;

/// Where the instances of a service are, by key.
pub type Instances = BTreeMap<Bytes, Seed>;

/// What an instance says of itself; more fields may be there, for others.
#[derive(serde::Deserialize)]
struct Announced {
    address: String,
}

/// Follows a service until told to stop.
pub async fn follow(
    client: Client,
    service: String,
    found: watch::Sender<Instances>,
    stop: CancellationToken,
) {
    let prefix = format!("services/{service}/");
    let mut told = false;
    let following = async {
        loop {
            match follow_once(&client, &prefix, &found, &mut told).await {
                Err(Error::Compacted { .. }) => {}
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(service, %error, "the list of instances cannot be had: the last one stays");
                }
                Err(error) => tracing::debug!(service, %error, "the list of instances cannot be had"),
                Ok(()) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! { () = following => {}, () = stop.cancelled() => {} }
}

/// From a read to the end of the watch that follows it.
async fn follow_once(
    client: &Client,
    prefix: &str,
    found: &watch::Sender<Instances>,
    told: &mut bool,
) -> Result<(), Error> {
    // The prefix ends in a slash, whose successor is a zero.
    let range_end = Bytes::from(format!("{}0", prefix.trim_end_matches('/')));
    let read = client
        .range(RangeRequest {
            key: prefix.to_owned().into(),
            range_end: range_end.clone(),
            limit: i64::try_from(INSTANCES_MAX).unwrap_or(i64::MAX),
            ..RangeRequest::default()
        })
        .await?;
    let revision = read.header.map_or(0, |header| header.revision);
    let listed = read.kvs.iter().filter_map(instance).collect();
    found.send_if_modified(|known| {
        let news = *known != listed;
        *known = listed;
        news
    });
    let mut events = client
        .watch(WatchCreateRequest {
            key: prefix.to_owned().into(),
            range_end,
            start_revision: revision + 1,
            ..WatchCreateRequest::default()
        })
        .await?;
    *told = false;
    while let Some(item) = events.next().await {
        if let WatchItem::Events { events, .. } = item? {
            found.send_if_modified(|known| {
                let mut news = false;
                for event in &events {
                    news |= take(known, event);
                }
                news
            });
        }
    }
    Ok(())
}

/// True if that is news.
fn take(known: &mut Instances, event: &Event) -> bool {
    let Some(kv) = &event.kv else { return false };
    let put = (event.r#type() == EventType::Put).then(|| instance(kv)).flatten();
    match put {
        Some((key, _)) if known.len() >= INSTANCES_MAX && !known.contains_key(&key) => {
            tracing::warn!(?key, max = INSTANCES_MAX, "left out: too many instances");
            false
        }
        Some((key, seed)) => known.insert(key, seed.clone()) != Some(seed),
        None => known.remove(&kv.key).is_some(),
    }
}

fn instance(kv: &KeyValue) -> Option<(Bytes, Seed)> {
    let announced = serde_json::from_slice::<Announced>(&kv.value).map_err(|error| error.to_string());
    let seed = announced.and_then(|Announced { address }| {
        Seed::parse(&address, HTTP_PORT).map_err(|error| error.to_string())
    });
    match seed {
        Ok(seed) => Some((kv.key.clone(), seed)),
        Err(error) => {
            tracing::warn!(key = ?kv.key, error, "left out: its value is not an instance's");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventType, key: &str, value: &str) -> Event {
        Event {
            r#type: kind.into(),
            kv: Some(KeyValue {
                key: key.to_owned().into(),
                value: value.to_owned().into(),
                ..KeyValue::default()
            }),
            prev_kv: None,
        }
    }

    fn shown(known: &Instances) -> Vec<String> {
        known.values().map(ToString::to_string).collect()
    }

    #[test]
    fn instances_come_move_and_go() {
        let put = |key, value| event(EventType::Put, key, value);
        let mut known = Instances::new();
        assert!(take(
            &mut known,
            &put("a", r#"{"address":"http://web-1:3000","host":"web-1"}"#)
        ));
        assert!(
            !take(&mut known, &put("a", r#"{"address":"http://web-1:3000"}"#)),
            "no news"
        );
        assert!(take(&mut known, &put("b", r#"{"address":"https://web-2"}"#)));
        assert_eq!(shown(&known), ["web-1:3000", "https://web-2:80"]);
        assert!(take(&mut known, &put("a", r#"{"address":"http://web-3:3000"}"#)));
        assert!(take(&mut known, &event(EventType::Delete, "b", "")));
        assert_eq!(shown(&known), ["web-3:3000"]);
        // What cannot be understood is no address to send requests to.
        assert!(take(&mut known, &put("a", "nonsense")));
        assert!(!take(&mut known, &put("a", r#"{"address":""}"#)));
        assert!(known.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut known = Instances::new();
        for at in 0..INSTANCES_MAX + 5 {
            let value = format!(r#"{{"address":"http://web-{at}:3000"}}"#);
            take(&mut known, &event(EventType::Put, &format!("k{at}"), &value));
        }
        assert_eq!(known.len(), INSTANCES_MAX);
    }
}

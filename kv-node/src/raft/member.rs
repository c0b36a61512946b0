//! What the membership knows of a node, and how the log and the store hold it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the membership knows of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The human-readable name; the host name unless `--name` says otherwise.
    pub name: String,
    /// Where other nodes reach it, as `http://host:port` or `https://host:port`.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until the node has announced itself once.
    pub client_urls: Vec<String>,
    /// How it came in, and what it may become.
    pub standing: Standing,
    /// What the node that took over a place made for it by a client is known by, 0 for all others: the
    /// random id of its data directory. A node that lost that directory cannot take the place again.
    pub claim: u64,
    /// What fails together with it, `--zone`; empty where that is not said.
    pub zone: String,
}

impl Member {
    /// Whether a node has taken this place.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// Whether one of its peer URLs is among these.
    pub fn shares_url(&self, peer_urls: &[String]) -> bool {
        self.peer_urls.iter().any(|url| peer_urls.contains(url))
    }
}

/// How a member came in, and what it may become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It founded the cluster, or joined by itself: it becomes a voter while there is room for one.
    #[default]
    Joined,
    /// A client added it as a voter, or promoted it: it has a vote, or gets one as soon as it has caught up.
    Voter,
    /// A client added it as a learner: it stays one until a client promotes it.
    Learner,
}

/// Begins the last of the peer URLs of a member with a zone, in the binary form.
const ZONE_SCHEME: &str = "zone:";

/// The form of a member outside this process. The JSON of identities and control calls has its zone by name. The
/// binary form of log and snapshots has a fixed list of fields, which came before zones: there the zone is the last
/// of the peer URLs, so that nodes without zones, and data written by them, are understood, and understand.
#[derive(Serialize, Deserialize)]
struct Form {
    name: String,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
    #[serde(default)]
    standing: Standing,
    #[serde(default)]
    claim: u64,
}

/// The form in JSON.
#[derive(Serialize, Deserialize)]
struct Named {
    #[serde(flatten)]
    form: Form,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    zone: String,
}

impl Serialize for Member {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Member {
            name,
            mut peer_urls,
            client_urls,
            standing,
            claim,
            zone,
        } = self.clone();
        let is_binary = !serializer.is_human_readable();
        if is_binary && !zone.is_empty() {
            peer_urls.push(format!("{ZONE_SCHEME}{zone}"));
        }
        let form = Form {
            name,
            peer_urls,
            client_urls,
            standing,
            claim,
        };
        if is_binary {
            form.serialize(serializer)
        } else {
            Named { form, zone }.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Member, D::Error> {
        let (mut form, mut zone) = if deserializer.is_human_readable() {
            let Named { form, zone } = Named::deserialize(deserializer)?;
            (form, zone)
        } else {
            (Form::deserialize(deserializer)?, String::new())
        };
        // A node without zones may have passed on in JSON what it read from the log.
        let is_zone = |url: &mut String| url.starts_with(ZONE_SCHEME);
        if let Some(last) = form.peer_urls.pop_if(is_zone)
            && zone.is_empty()
        {
            zone = last[ZONE_SCHEME.len()..].to_owned();
        }
        Ok(Member {
            name: form.name,
            peer_urls: form.peer_urls,
            client_urls: form.client_urls,
            standing: form.standing,
            claim: form.claim,
            zone,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn member(zone: &str) -> Member {
        Member {
            name: "n1".to_owned(),
            peer_urls: vec!["http://a:2380".to_owned()],
            client_urls: vec!["http://a:2379".to_owned()],
            standing: Standing::Voter,
            claim: 7,
            zone: zone.to_owned(),
        }
    }

    #[test]
    fn keeps_its_zone_in_both_forms() {
        for zone in ["", "eu-1"] {
            let member = member(zone);
            let binary = codec::encode(&member).unwrap();
            assert_eq!(codec::decode::<Member>(&binary).unwrap(), member);
            let json = serde_json::to_string(&member).unwrap();
            assert_eq!(serde_json::from_str::<Member>(&json).unwrap(), member);
        }
    }

    #[test]
    fn nodes_without_zones_are_understood_and_understand() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct WithoutZones {
            name: String,
            peer_urls: Vec<String>,
            client_urls: Vec<String>,
            standing: Standing,
            claim: u64,
        }
        let old: WithoutZones = codec::decode(&codec::encode(&member("eu-1")).unwrap()).unwrap();
        assert_eq!(old.peer_urls, ["http://a:2380", "zone:eu-1"]);
        assert_eq!(
            codec::decode::<Member>(&codec::encode(&old).unwrap()).unwrap(),
            member("eu-1")
        );
        let passed_on = serde_json::to_string(&old).unwrap();
        assert_eq!(
            serde_json::from_str::<Member>(&passed_on).unwrap(),
            member("eu-1")
        );
        assert_eq!(codec::encode(&member("")).unwrap(), {
            let plain = WithoutZones {
                peer_urls: vec!["http://a:2380".to_owned()],
                ..old
            };
            codec::encode(&plain).unwrap()
        });
        let json = r#"{"name": "n1", "peer_urls": [], "client_urls": []}"#;
        assert_eq!(serde_json::from_str::<Member>(json).unwrap().zone, "");
    }
}

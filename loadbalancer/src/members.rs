//! The cluster's own list of its members, and which of the addresses in it are of use from here.

use std::net::SocketAddr;
use std::time::Duration;

use kv_proto::etcdserverpb::{MemberListRequest, cluster_client::ClusterClient};
use tonic::transport::Channel;

use crate::seed::Seed;
use crate::upstream::Dial;

/// etcd's client port, for client URLs without one.
const CLIENT_PORT: u16 = 2379;
/// Members that are looked at in an answer.
const MEMBERS_MAX: usize = 64;
/// Client URLs that are looked at per member.
const URLS_MAX: usize = 8;

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Where it says clients find it.
    pub urls: Vec<Seed>,
}

/// A connection to one node for asking, kept from one question to the next.
#[derive(Debug)]
pub struct MemberSource {
    /// The node.
    pub addr: SocketAddr,
    client: ClusterClient<Channel>,
}

impl MemberSource {
    /// Asks this node from now on; the connection is made with the first question.
    #[must_use]
    pub fn new(dial: &Dial, timeout: Duration) -> Option<Self> {
        Some(MemberSource {
            addr: dial.addr,
            client: ClusterClient::new(dial.channel(timeout)?),
        })
    }

    /// The id of the cluster (0: not said) and its members as this node knows them; it need not have a
    /// leader for that.
    ///
    /// # Errors
    /// The node's status.
    pub async fn members(&mut self) -> Result<(u64, Vec<Member>), Box<tonic::Status>> {
        let request = MemberListRequest { linearizable: false };
        let response = self.client.member_list(request).await?.into_inner();
        let member = |member: kv_proto::etcdserverpb::Member| Member {
            id: member.id,
            urls: usable_urls(&member.client_ur_ls),
        };
        let cluster = response.header.map_or(0, |header| header.cluster_id);
        let members = response.members.into_iter().take(MEMBERS_MAX).map(member);
        Ok((cluster, members.collect()))
    }
}

/// Those client URLs that the balancer could use: they name a host.
fn usable_urls(urls: &[String]) -> Vec<Seed> {
    let parsed = urls
        .iter()
        .take(URLS_MAX)
        .filter_map(|url| Seed::parse(url, CLIENT_PORT).ok());
    parsed.collect()
}

/// Whether an advertised address can lead to that member from here.
///
/// `0.0.0.0` never does. The loopback address does only if the seeds are there too (everything runs on
/// one machine); in a container it would lead back to the balancer itself. Neither do the balancer's
/// own listeners.
#[must_use]
pub fn is_reachable(addr: SocketAddr, seeds_on_loopback: bool, own: &[SocketAddr]) -> bool {
    let ip = addr.ip().to_canonical();
    let is_own = own.iter().any(|listener| {
        let here = listener.ip().is_unspecified() && ip.is_loopback();
        listener.port() == addr.port() && (here || listener.ip().to_canonical() == ip)
    });
    !ip.is_unspecified() && !ip.is_multicast() && !is_own && (!ip.is_loopback() || seeds_on_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn useless_urls_are_left_out() {
        let urls = [
            "http://n1:2379",
            "https://n1:2379",
            "unix://x",
            "",
            "http://n1",
            "http://:1",
        ];
        let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        let shown: Vec<String> = usable_urls(&urls).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["n1:2379", "https://n1:2379", "n1:2379"]);
    }

    #[test]
    fn useless_addresses_are_left_out() {
        let own: Vec<SocketAddr> = ["0.0.0.0:2379", "127.0.0.1:8080", "10.1.1.1:8404"]
            .map(|a| a.parse().unwrap())
            .into();
        for (addr, on_loopback, expected) in [
            ("0.0.0.0:12379", true, false),
            ("[::]:12379", true, false),
            ("127.0.0.1:12379", false, false),
            ("127.0.0.1:12379", true, true),
            ("[::1]:12379", false, false),
            ("127.0.0.1:2379", true, false),
            ("127.0.0.1:8080", true, false),
            ("10.1.1.1:8404", false, false),
            ("10.1.1.2:2379", false, true),
        ] {
            assert_eq!(
                is_reachable(addr.parse().unwrap(), on_loopback, &own),
                expected,
                "{addr}"
            );
        }
    }
}

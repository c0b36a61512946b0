//! Streams: their sizes, their pace, and their ends.

use super::*;

#[tokio::test]
async fn what_is_too_large_for_a_message_comes_in_fragments() {
    let talk = async |mut talk: Talk| {
        talk.create(WatchCreateRequest {
            fragment: true,
            ..everything()
        })
        .await;
        // Previous values make an answer larger than any request may be.
        talk.create(WatchCreateRequest {
            prev_kv: true,
            fragment: true,
            ..everything()
        })
        .await;
        for letter in ["1", "2"] {
            let puts = ["a", "b", "c", "d", "e"].map(|key| put(key, letter.repeat(300_000)));
            talk.kv.txn(txn(puts.map(Op::RequestPut))).await.unwrap();
        }
        let (mut told, mut heard) = (String::new(), 0);
        while heard < 20 {
            let answer = talk.answer().await;
            heard += answer.events.len();
            let keys: Vec<_> = answer
                .events
                .iter()
                .map(|event| text(&event.kv.as_ref().unwrap().key))
                .collect();
            let revision = answer.header.unwrap().revision - talk.began;
            if answer.watch_id == 1 {
                writeln!(told, "{revision:+} {} {}", keys.concat(), answer.fragment).unwrap();
            }
        }
        told
    };
    compare(talk, "+1 abcde false\n+2 abc true\n+2 de false\n").await;
}

#[tokio::test]
async fn quiet_watches_are_told_how_far_they_are() {
    compare(
        async |mut talk| {
            talk.create(WatchCreateRequest {
                progress_notify: true,
                ..of("a")
            })
            .await;
            talk.create(of("b")).await;
            talk.put("c", "1").await;
            // One may have been on its way before the put.
            let mut report = talk.answer().await;
            while report.header.as_ref().unwrap().revision == talk.began {
                report = talk.answer().await;
            }
            talk.said.push_str(&told(&report, talk.began));
            talk.said
        },
        r#"> watch "a" ""
0 at +0 created
> watch "b" ""
1 at +0 created
> put c 1
0 at +1
"#,
    )
    .await;
}

#[tokio::test]
async fn a_stream_outlives_its_requests_and_ends_with_the_node() {
    let server = Server::start().await;
    let mut talk = Talk::begin(server.url("")).await;
    talk.create(of("a")).await;
    let (requests, _) = mpsc::channel(1);
    talk.requests = requests;
    talk.put("a", "1").await;
    talk.hear().await;
    let mut answers = talk.answers;
    let began = Instant::now();
    let end = tokio::spawn(async move { answers.next().await.unwrap().unwrap_err() });
    server.stop().await;
    let end = end.await.unwrap();
    assert_eq!(
        (end.code(), end.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    assert!(began.elapsed() < DRAIN_TIMEOUT, "stopping waited for a watch");
}

#[tokio::test]
async fn whoever_needs_a_leader_is_told_when_there_is_none() {
    let server = Server::start_without_quorum().await;
    let watch = |needs_leader: bool| {
        let (requests, queue) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(queue));
        if needs_leader {
            request
                .metadata_mut()
                .insert("hasleader", "true".parse().unwrap());
        }
        let mut client = server.watch();
        async move { (client.watch(request).await, requests) }
    };
    let (refused, _) = watch(true).await;
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
    let (answers, requests) = watch(false).await;
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(of("a"))),
    };
    requests.send(create).await.unwrap();
    let created = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    assert!(created.created && !created.canceled);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_holds_nobody_up() {
    let server = Server::start().await;
    let mut talk = Talk::begin(server.url("")).await;
    talk.create(everything()).await;
    let mut reader = Talk::begin(server.url("")).await;
    reader.create(everything()).await;
    // More than the windows and buffers between here and there hold.
    let writes = 12 * 8;
    for n in 0..writes {
        let value = vec![b'0' + (n % 10) as u8; 256 << 10];
        reader.kv.put(put("a", value)).await.unwrap();
        let answer = reader.answer().await;
        assert_eq!(answer.events.len(), 1);
    }
    let stats = server.node.hub().stats();
    assert!(
        stats.fell_behind > 0 && stats.waiting_bytes < 2 << 20,
        "{stats:?}"
    );
    // What it did not read is all still there.
    let mut heard = 0;
    while heard < writes {
        let answer = talk.answer().await;
        for event in answer
            .events
            .iter()
            .filter(|event| event.kv.as_ref().unwrap().key == "a")
        {
            assert_eq!(event.kv.as_ref().unwrap().value[0], b'0' + (heard % 10) as u8);
            heard += 1;
        }
    }
    until("all is caught up", || server.node.hub().stats().behind == 0).await;
    drop((talk, reader));
    until("nothing is left", || server.node.hub().stats().watches == 0).await;
    server.stop().await;
}

/// As a million would: the bound is the same.
#[tokio::test]
async fn more_watches_than_a_stream_may_have_are_refused_one_by_one() {
    const BEYOND: usize = 2000;
    let server = Server::start().await;
    let channel = Endpoint::from_shared(server.url("")).unwrap().connect_lazy();
    let create = || WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(of("a"))),
    };
    let requests =
        stream::iter((0..FEED_WATCHES_MAX + BEYOND).map(move |_| create())).chain(stream::pending());
    let answers = WatchClient::new(channel)
        .watch(requests)
        .await
        .unwrap()
        .into_inner();
    let mut answers = answers.map(Result::unwrap);
    let created: Vec<WatchResponse> = answers.by_ref().take(FEED_WATCHES_MAX + BEYOND).collect().await;
    let (taken, refused) = created.split_at(FEED_WATCHES_MAX);
    assert!(taken.iter().all(|answer| answer.created && !answer.canceled));
    for answer in refused {
        assert!(answer.created && answer.canceled);
        assert_eq!(
            (answer.watch_id, answer.cancel_reason.as_str()),
            (-1, "etcdserver: too many requests")
        );
    }
    // The node goes on, and so does the stream, which hears of one write as often as it has watches.
    let mut other = Talk::begin(server.url("")).await;
    other.create(of("a")).await;
    other.put("a", "1").await;
    assert_eq!(other.answer().await.events.len(), 1);
    let heard: Vec<WatchResponse> = answers.take(FEED_WATCHES_MAX).collect().await;
    assert!(heard.iter().all(|answer| answer.events.len() == 1));
    server.stop().await;
}

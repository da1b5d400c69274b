//! Messages as the manual lays them out, cut anywhere; and a server of a few bytes at the other end of a socket.

use proptest::prelude::*;
use tokio::net::UnixListener;

use super::*;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in_wherever_they_are_cut(
        bodies in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..50)), 0..8),
        chunk in 1_usize..20,
    ) {
        let sent: Vec<u8> = bodies.iter().flat_map(|(kind, body)| message(*kind, body)).collect();
        let (mut buffer, mut got) = (Vec::new(), Vec::new());
        for part in sent.chunks(chunk) {
            buffer.extend(part);
            while let Some(message) = take_message(&mut buffer).unwrap() {
                got.push((message.kind, message.body));
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(got, bodies);
    }

    #[test]
    fn no_bytes_make_the_client_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = row(&bytes);
        let _ = columns(&bytes);
        let _ = notice(&bytes);
        let _ = take_message(&mut bytes.clone());
    }
}

#[test]
fn a_message_without_end_is_not_believed() {
    let mut bytes = vec![b'D'];
    bytes.extend(u32::MAX.to_be_bytes());
    assert!(matches!(
        take_message(&mut bytes),
        Err(WireError::Protocol(_))
    ));
}

#[test]
fn literals_cannot_be_left() {
    assert_eq!(literal("it's"), "'it''s'");
    assert_eq!(literal(r"a\'"), r"E'a\\'''");
    assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
}

/// Answers the startup message and one query with these bytes.
async fn server(listener: UnixListener, answer: Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 1024];
    let _ = stream.read(&mut bytes).await.unwrap();
    let mut ready = message(b'R', &[0; 4]);
    ready.extend(message(b'Z', b"I"));
    stream.write_all(&ready).await.unwrap();
    let _ = stream.read(&mut bytes).await.unwrap();
    stream.write_all(&answer).await.unwrap();
    // Until the client hangs up.
    let _ = stream.read(&mut bytes).await;
}

async fn ask(answer: Vec<u8>) -> (Result<Reply, WireError>, bool) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let limit = Duration::from_millis(500);
    let talk = async {
        let mut client = Client::connect(&socket, &[("user", "postgres")], limit)
            .await
            .unwrap();
        let reply = client.query("COMMIT", limit).await;
        (reply, client.is_idle())
    };
    tokio::select! {
        said = talk => said,
        () = server(listener, answer) => panic!("the server ended first"),
    }
}

#[tokio::test]
async fn a_warning_that_comes_with_a_commit_is_kept() {
    let mut answer = message(
        b'N',
        b"SWARNING\0VWARNING\0C01000\0Mcanceling wait for synchronous replication\0\0",
    );
    answer.extend(message(b'C', b"COMMIT\0"));
    answer.extend(message(b'Z', b"I"));
    let (reply, idle) = ask(answer).await;
    let reply = reply.unwrap();
    assert!(idle);
    assert_eq!(reply.tag, "COMMIT");
    assert_eq!(reply.notices[0].severity, "WARNING");
    assert_eq!(reply.notices[0].code, "01000");
}

#[tokio::test]
async fn a_connection_whose_answer_never_came_is_used_no_more() {
    let (reply, idle) = ask(message(b'C', b"COMMIT\0")).await;
    assert!(matches!(reply, Err(WireError::TooLong { .. })));
    assert!(!idle);
}

#[tokio::test]
async fn an_error_leaves_the_connection_and_a_fatal_one_ends_it() {
    let mut answer = message(b'E', b"VERROR\0C42601\0Mno\0\0");
    answer.extend(message(b'Z', b"I"));
    let (reply, idle) = ask(answer).await;
    assert!(matches!(reply, Err(WireError::Server { over: false, .. })));
    assert!(idle);
    let (reply, idle) = ask(message(b'E', b"VFATAL\0C57P01\0Mbye\0\0")).await;
    assert!(matches!(reply, Err(WireError::Server { over: true, .. })));
    assert!(!idle);
}

use proptest::prelude::*;

use super::*;

fn whole(text: &str) -> Value {
    let (value, length) = decode(text.as_bytes()).unwrap().unwrap();
    assert_eq!(length, text.len());
    value
}

#[test]
fn replies_of_every_kind() {
    let text = |text: &str| Value::Text(text.to_owned());
    let cases = [
        ("+OK\r\n", text("OK")),
        ("-NOPERM no\r\n", Value::Error("NOPERM no".to_owned())),
        (":-7\r\n", Value::Integer(-7)),
        ("$-1\r\n", Value::Null),
        ("*-1\r\n", Value::Null),
        ("$0\r\n\r\n", text("")),
        ("$4\r\na\r\nb\r\n", text("a\r\nb")),
        ("*0\r\n", Value::Array(Vec::new())),
        (
            "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            Value::Array(vec![text("a"), Value::Array(vec![Value::Integer(1)])]),
        ),
    ];
    for (bytes, value) in cases {
        assert_eq!(whole(bytes), value, "{bytes:?}");
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes.as_bytes()[..cut]), Ok(None), "{bytes:?}");
        }
    }
}

#[test]
fn what_is_no_reply_or_too_large_is_refused() {
    for bytes in [
        "\r\n",
        "HTTP/1.1 400\r\n",
        "$x\r\n",
        "$-2\r\n",
        ":\r\n",
        "$1\r\nabc",
    ] {
        assert_eq!(
            decode(bytes.as_bytes()),
            Err(RespError::Malformed),
            "{bytes:?}"
        );
    }
    let deep = "*1\r\n".repeat(6);
    for bytes in ["$1000000\r\n", "*100000\r\n", &deep] {
        assert_eq!(
            decode(bytes.as_bytes()),
            Err(RespError::TooLarge),
            "{bytes:?}"
        );
    }
    let endless = vec![b'+'; MAX_REPLY + 1];
    assert_eq!(decode(&endless), Err(RespError::TooLarge));
}

proptest! {
    #[test]
    fn any_bytes_are_a_reply_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(Some((_, length))) = decode(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }

    /// A command is itself an array of bulk strings.
    #[test]
    fn commands_say_their_words(words in proptest::collection::vec("\\PC{0,20}", 1..6)) {
        let refs: Vec<&str> = words.iter().map(String::as_str).collect();
        let bytes = command(&refs);
        let expected = Value::Array(words.iter().cloned().map(Value::Text).collect());
        prop_assert_eq!(decode(&bytes), Ok(Some((expected, bytes.len()))));
    }
}

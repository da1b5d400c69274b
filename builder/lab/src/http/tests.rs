use std::{fs, net::Shutdown, os::unix::fs::symlink, process::Command};

use sha2::Digest;

use super::*;

/// A server on loopback, ended with the test's process.
fn start(dir: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let dir = dir.to_owned();
    thread::spawn(move || accept(&listener, &dir));
    address
}

/// Sends bytes and returns everything that comes back until the server closes.
fn talk(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(text.as_bytes()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("received");
    String::from_utf8_lossy(&answer).into_owned()
}

fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    answer
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .expect("the field is there")
}

#[test]
fn files_are_served_whole_in_part_and_not_again() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("a+b~1.deb"), "0123456789").expect("written");
    let address = start(dir.path());
    let all = talk(address, "GET /a%2bb~1.deb HTTP/1.1\r\n\r\n");
    assert!(
        all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("\r\n\r\n0123456789"),
        "{all}"
    );
    let tag = field(&all, "ETag");
    let date = field(&all, "Last-Modified");
    for condition in [
        format!("If-None-Match: {tag}"),
        format!("If-Modified-Since: {date}"),
    ] {
        let again = talk(
            address,
            &format!("GET /a+b~1.deb HTTP/1.1\r\n{condition}\r\n\r\n"),
        );
        assert!(
            again.starts_with("HTTP/1.1 304 ") && again.ends_with("\r\n\r\n"),
            "{again}"
        );
    }
    let part = talk(
        address,
        &format!("GET /a+b~1.deb HTTP/1.1\r\nRange: bytes=4-\r\nIf-Range: {date}\r\n\r\n"),
    );
    assert!(
        part.starts_with("HTTP/1.1 206 ") && part.ends_with("\r\n\r\n456789"),
        "{part}"
    );
    assert_eq!(field(&part, "Content-Range"), "bytes 4-9/10");
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["a", "b"] {
        fs::write(dir.path().join(name), name.repeat(3)).expect("written");
    }
    let answer = talk(
        start(dir.path()),
        "GET /a HTTP/1.1\r\n\r\nHEAD /b HTTP/1.1\r\n\r\nGET /gone HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
    );
    let codes: Vec<_> = answer
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &answer[at + 9..at + 12])
        .collect();
    assert_eq!(codes, ["200", "200", "404", "200"]);
    assert_eq!(answer.matches("bbb").count(), 1, "HEAD has no body");
}

#[test]
fn nothing_outside_the_directory_is_served_and_no_directory_is() {
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("secret"), "secret").expect("written");
    let dir = outside.path().join("served");
    fs::create_dir_all(dir.join("pool")).expect("made");
    fs::write(dir.join("pool/f"), "inside").expect("written");
    symlink("../secret", dir.join("up")).expect("linked");
    symlink(outside.path().join("secret"), dir.join("absolute")).expect("linked");
    symlink("pool/f", dir.join("within")).expect("linked");
    let address = start(&dir);
    for path in [
        "/up",
        "/absolute",
        "/pool",
        "/",
        "/pool/../../secret",
        "//etc/passwd",
        "/%2e%2e/secret",
    ] {
        let answer = talk(address, &format!("GET {path} HTTP/1.1\r\n\r\n"));
        assert!(
            answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 400 "),
            "{path}: {answer}"
        );
        assert!(!answer.contains("secret"));
    }
    assert!(talk(address, "GET /within HTTP/1.1\r\n\r\n").ends_with("inside"));
}

#[test]
fn a_crowd_is_turned_away_and_leaves_room_when_it_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("a"), "a").expect("written");
    let address = start(dir.path());
    let ask = |mut stream: &TcpStream| {
        stream.write_all(b"GET /a HTTP/1.1\r\n\r\n").expect("sent");
        let mut code = [0; 12];
        stream.read_exact(&mut code).expect("received");
        code[9..].to_owned()
    };
    // Each answered once, so each is known to hold its place.
    let crowd: Vec<_> = (0..CONNECTIONS)
        .map(|_| TcpStream::connect(address).expect("connected"))
        .collect();
    assert!(crowd.iter().all(|stream| ask(stream) == b"200"));
    let mut one_more = TcpStream::connect(address).expect("connected");
    let mut answer = String::new();
    one_more.read_to_string(&mut answer).expect("received");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(crowd);
    let end = std::time::Instant::now() + IDLE;
    while !talk(address, "GET /a HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 ") {
        assert!(std::time::Instant::now() < end, "places are given back");
    }
}

#[test]
fn apt_fetches_from_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let packages = "Package: hello\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nFilename: hello.deb\nSize: 0\n";
    let digest: String = sha2::Sha256::digest(packages)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let date = date::format(now - 60).replace("GMT", "UTC");
    let release = format!(
        "Date: {date}\nSHA256:\n {digest} {} Packages\n",
        packages.len()
    );
    fs::write(dir.path().join("Packages"), packages).expect("written");
    fs::write(dir.path().join("Release"), release).expect("written");
    let address = start(dir.path());
    let root = tempfile::tempdir().expect("a directory");
    let path = |name: &str| root.path().join(name).to_string_lossy().into_owned();
    fs::create_dir_all(path("lists/partial")).expect("made");
    fs::write(
        path("list"),
        format!("deb [trusted=yes] http://{address}/ ./\n"),
    )
    .expect("written");
    let update = || {
        let mut apt = Command::new("apt-get");
        apt.env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8");
        for (name, value) in [
            ("Dir::State::lists", path("lists")),
            ("Dir::Etc::sourcelist", path("list")),
            ("Dir::Etc::sourceparts", "-".to_owned()),
            ("Dir::Cache", path("cache")),
            ("Dir::State::status", "/dev/null".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
            ("APT::Update::Error-Mode", "any".to_owned()),
            ("Acquire::http::Proxy", "DIRECT".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Check-Valid-Until", "true".to_owned()),
            ("Acquire::Check-Date", "true".to_owned()),
        ] {
            apt.arg("-o").arg(format!("{name}={value}"));
        }
        let output = apt.arg("update").output().expect("apt runs");
        let words = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}");
        words
    };
    assert!(update().contains("Get:"), "the first time it is fetched");
    assert!(
        update().contains("Hit:"),
        "the second time it has not changed"
    );
}

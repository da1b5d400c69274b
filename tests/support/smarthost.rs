//! A mail server that takes a fleet's mail: ESMTP (RFC 5321) with STARTTLS (RFC 3207) and AUTH PLAIN (RFC 4954), as a provider's
//! does it. It tells every session to the test, what came in clear and what came encrypted, and can show another certificate at
//! any time.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// A message that was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mail {
    /// Who was logged in.
    pub user: String,
    /// MAIL FROM.
    pub sender: String,
    /// RCPT TO.
    pub recipients: Vec<String>,
    /// Head and body, with `\n` at the ends of lines.
    pub text: String,
}

impl Mail {
    /// A field of the head, unfolded; nothing where it is missing.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let (head, _) = self.text.split_once("\n\n")?;
        let head = head.replace("\n ", " ").replace("\n\t", " ");
        let value = head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        value.map(str::to_owned)
    }

    /// What comes after the head.
    #[must_use]
    pub fn body(&self) -> &str {
        self.text.split_once("\n\n").map_or("", |(_, body)| body)
    }
}

/// One connection, from its beginning to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// Commands in clear.
    pub clear: Vec<String>,
    /// Commands after the handshake; what was logged in with is left out.
    pub encrypted: Vec<String>,
    /// What was taken.
    pub mails: Vec<Mail>,
    /// How it ended, where that was not by QUIT.
    pub broken: Option<String>,
}

/// Certificates that the server may show, and who signed them.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new CA.
    ///
    /// # Panics
    /// Where a certificate cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = called("a CA of these tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What a server with that name shows.
    ///
    /// # Panics
    /// Where a certificate cannot be made.
    #[must_use]
    pub fn certify(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name = called(name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key is the certificate's");
        Arc::new(config)
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// Who may log in.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// The server. It ends with the test's process.
pub struct Smarthost {
    shown: Arc<Mutex<Arc<ServerConfig>>>,
    sessions: Receiver<Session>,
}

impl Smarthost {
    /// Listens at that address in a network namespace, which a lab's nodes reach.
    ///
    /// # Panics
    /// Where that cannot be done.
    #[must_use]
    pub fn listen(
        network: &Path,
        address: (Ipv4Addr, u16),
        login: Login,
        shown: Arc<ServerConfig>,
    ) -> Self {
        let network = std::fs::File::open(network).expect("the lab's network is there");
        // A socket belongs to the network in which it was made, whoever uses it. This thread alone goes there.
        let listener = thread::spawn(move || {
            use std::os::fd::AsFd as _;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the test is root");
            TcpListener::bind(address).expect("nobody listens there")
        });
        let listener = listener.join().expect("it listens");
        let (tell, sessions) = channel();
        let shown = Arc::new(Mutex::new(shown));
        let (config, login) = (Arc::clone(&shown), Arc::new(login));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let now = Arc::clone(&config.lock().expect("nobody panics with it"));
                let (tell, login) = (tell.clone(), Arc::clone(&login));
                thread::spawn(move || serve(stream, now, &login, &tell));
            }
        });
        Self { shown, sessions }
    }

    /// Shows another certificate from now on.
    ///
    /// # Panics
    /// Never: nobody panics while it is changed.
    pub fn show(&self, config: Arc<ServerConfig>) {
        *self.shown.lock().expect("nobody panics with it") = config;
    }

    /// The next session that ends.
    ///
    /// # Panics
    /// When none does in time.
    #[must_use]
    pub fn session(&self, limit: Duration) -> Session {
        self.sessions
            .recv_timeout(limit)
            .unwrap_or_else(|_| panic!("nobody came within {} s", limit.as_secs()))
    }

    /// The next message for which `wanted` holds; others, and sessions without any, are passed over.
    ///
    /// # Panics
    /// When none comes in time; it tells what came instead.
    #[must_use]
    pub fn mail(&self, what: &str, limit: Duration, wanted: impl Fn(&Mail) -> bool) -> Mail {
        let end = Instant::now() + limit;
        let mut others = Vec::new();
        loop {
            match self
                .sessions
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(session) => {
                    if let Some(mail) = session.mails.iter().find(|mail| wanted(mail)) {
                        return mail.clone();
                    }
                    others.push(session);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{what}: not within {} s, but {others:#?}", limit.as_secs());
                }
            }
        }
    }

    /// Forgets the sessions that have ended.
    pub fn forget(&self) {
        while self.sessions.try_recv().is_ok() {}
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, login: &Login, tell: &Sender<Session>) {
    let mut session = Session::default();
    if let Err(error) = converse(stream, config, login, &mut session) {
        session.broken = Some(error.to_string());
    }
    // The test may have ended.
    let _ = tell.send(session);
}

fn converse(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    login: &Login,
    session: &mut Session,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    let mut clear = BufReader::new(stream);
    say(&mut clear, "220 smarthost ESMTP")?;
    loop {
        let Some(line) = command(&mut clear)? else {
            return Ok(());
        };
        let verb = verb(&line);
        session.clear.push(line);
        match verb.as_str() {
            "EHLO" => say(&mut clear, "250-smarthost\r\n250 STARTTLS")?,
            "STARTTLS" => break,
            "QUIT" => return say(&mut clear, "221 bye"),
            _ => say(&mut clear, "530 5.7.0 Must issue a STARTTLS command first")?,
        }
    }
    say(&mut clear, "220 go ahead")?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, clear.into_inner()));
    let mut user: Option<String> = None;
    let mut mail = Mail::default();
    while let Some(line) = command(&mut stream)? {
        let verb = verb(&line);
        let argument = line.split_once(':').map_or("", |(_, rest)| rest);
        let path = argument
            .split('>')
            .next()
            .unwrap_or("")
            .trim_start_matches('<');
        session.encrypted.push(match verb.as_str() {
            "AUTH" => "AUTH".to_owned(),
            _ => line.clone(),
        });
        match verb.as_str() {
            "EHLO" => say(
                &mut stream,
                "250-smarthost\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 AUTH PLAIN",
            )?,
            "AUTH" => {
                user = plain(&line)
                    .filter(|(user, password)| (user, password) == (&login.user, &login.password))
                    .map(|(user, _)| user);
                say(
                    &mut stream,
                    if user.is_some() {
                        "235 2.7.0 welcome"
                    } else {
                        "535 5.7.8 who are you"
                    },
                )?;
            }
            "QUIT" => return say(&mut stream, "221 2.0.0 bye"),
            "RSET" | "NOOP" => say(&mut stream, "250 2.0.0 fine")?,
            _ if user.is_none() => say(&mut stream, "530 5.7.0 Authentication required")?,
            "MAIL" => {
                mail = Mail {
                    user: user.clone().unwrap_or_default(),
                    sender: path.to_owned(),
                    ..Mail::default()
                };
                say(&mut stream, "250 2.1.0 fine")?;
            }
            "RCPT" => {
                mail.recipients.push(path.to_owned());
                say(&mut stream, "250 2.1.5 fine")?;
            }
            "DATA" => {
                say(&mut stream, "354 go ahead")?;
                mail.text = data(&mut stream)?;
                session.mails.push(std::mem::take(&mut mail));
                say(&mut stream, "250 2.0.0 taken")?;
            }
            _ => say(&mut stream, "502 5.5.1 not here")?,
        }
    }
    Ok(())
}

fn say<S: Read + Write>(stream: &mut BufReader<S>, text: &str) -> io::Result<()> {
    let stream = stream.get_mut();
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    stream.flush()
}

/// A line without its end; nothing where the connection has ended.
fn command<S: Read>(stream: &mut BufReader<S>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = stream.read_until(b'\n', &mut line)?;
    let text = String::from_utf8_lossy(&line);
    Ok((read > 0).then(|| text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn verb(line: &str) -> String {
    line.split([' ', ':'])
        .next()
        .unwrap_or("")
        .to_ascii_uppercase()
}

/// User and password of `AUTH PLAIN` with its first answer (RFC 4616).
fn plain(line: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(line.split(' ').nth(2)?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let mut parts = text.split('\0').skip(1).map(str::to_owned);
    Some((parts.next()?, parts.next()?))
}

/// Lines up to a single dot, doubled dots undone.
fn data<S: Read>(stream: &mut BufReader<S>) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let line = command(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line == "." {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push('\n');
    }
}

//! From a configuration as it is on a node to one that can be tested here: what leads to files, sockets and addresses is led
//! elsewhere, and nothing moves to another line.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

/// The directory of nginx's configuration, from which relative names of files are read.
pub(super) const ETC: &str = "/etc/nginx";

/// Directives that name certificates, keys and authorities, without the module that they begin with. All of them can be one file
/// with a certificate and its key.
const CERTIFICATES: [&str; 4] = [
    "certificate",
    "certificate_key",
    "client_certificate",
    "trusted_certificate",
];
const MODULES: [&str; 4] = ["ssl_", "proxy_ssl_", "grpc_ssl_", "uwsgi_ssl_"];

/// Directives whose files exist on the node alone and cannot be made up.
const LEFT_OUT: [&str; 9] = [
    "ssl_crl",
    "proxy_ssl_crl",
    "ssl_dhparam",
    "ssl_ocsp",
    "ssl_password_file",
    "proxy_ssl_password_file",
    "ssl_session_ticket_key",
    "ssl_stapling_file",
    "load_module",
];

/// Directives whose first argument is a directory that nginx makes when it starts.
const DIRECTORIES: [&str; 9] = [
    "client_body_temp_path",
    "proxy_temp_path",
    "fastcgi_temp_path",
    "uwsgi_temp_path",
    "scgi_temp_path",
    "proxy_cache_path",
    "fastcgi_cache_path",
    "uwsgi_cache_path",
    "scgi_cache_path",
];

/// The first of the ports that stand for what is listened on. Where one is taken the test goes on without it, as nginx does.
const FIRST_PORT: u16 = 20_000;

/// Rewrites the files of one node.
#[derive(Debug)]
pub(super) struct Rewriter {
    prefix: PathBuf,
    /// The files that are laid out, by their paths on the node.
    known: BTreeSet<String>,
    http2_directive: bool,
    /// What is listened on, by the address that stands for it.
    listens: BTreeMap<String, String>,
    directories: BTreeMap<String, usize>,
    missing: BTreeSet<String>,
}

impl Rewriter {
    /// For files that are laid out below `prefix`, and an nginx that has the directive `http2` or does not.
    pub(super) fn new(prefix: &Path, known: BTreeSet<String>, http2_directive: bool) -> Self {
        Self {
            prefix: prefix.to_owned(),
            known,
            http2_directive,
            listens: BTreeMap::new(),
            directories: BTreeMap::new(),
            missing: BTreeSet::new(),
        }
    }

    /// The file that stands for every certificate, key and authority.
    pub(super) fn certificate(&self) -> PathBuf {
        self.prefix.join("certificate.pem")
    }

    /// Files that are included by their names and come from elsewhere: something on the node makes them.
    pub(super) fn missing(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().map(String::as_str)
    }

    /// The file that includes the others, with what Debian's nginx.conf says in both suites, since nothing may be said twice. `user`
    /// is for root alone: to whom nginx would give its directories.
    pub(super) fn main(&self, user: Option<&str>) -> String {
        let prefix = self.prefix.display();
        let temporary: String = DIRECTORIES
            .iter()
            .filter(|name| name.ends_with("_temp_path"))
            .map(|name| format!("    {name} {prefix}/{name};\n"))
            .collect();
        let user = user.map_or_else(String::new, |user| format!("user {user} {user};\n"));
        format!(
            "{user}\
             pid {prefix}/nginx.pid;\n\
             error_log stderr warn;\n\
             events {{}}\n\
             http {{\n{temporary}    \
             sendfile on;\n    \
             tcp_nopush on;\n    \
             types_hash_max_size 2048;\n    \
             default_type application/octet-stream;\n    \
             ssl_protocols TLSv1.2 TLSv1.3;\n    \
             ssl_prefer_server_ciphers on;\n    \
             access_log {prefix}/access.log;\n    \
             gzip on;\n    \
             include {prefix}{ETC}/conf.d/*.conf;\n\
             }}\n"
        )
    }

    /// A file, rewritten.
    pub(super) fn text(&mut self, text: &str) -> String {
        let mut edits = Vec::new();
        let mut words: Vec<Range<usize>> = Vec::new();
        for token in tokens(text) {
            match &text[token.clone()] {
                ";" => {
                    self.directive(text, &words, token.end, &mut edits);
                    words.clear();
                }
                "{" | "}" => words.clear(),
                _ => words.push(token),
            }
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for (span, new) in edits {
            out.push_str(&text[at..span.start]);
            out.push_str(&new);
            at = span.end;
        }
        out.push_str(&text[at..]);
        out
    }

    /// What nginx said, in the node's own names.
    pub(super) fn restore(&self, said: &str) -> String {
        let mut said = said.replace(&*self.prefix.to_string_lossy(), "");
        for (address, listen) in &self.listens {
            said = said.replace(address, listen);
        }
        said
    }

    /// Adds what changes in a directive that ends at `end`.
    fn directive(
        &mut self,
        text: &str,
        words: &[Range<usize>],
        end: usize,
        edits: &mut Vec<(Range<usize>, String)>,
    ) {
        let Some((name, arguments)) = words.split_first() else {
            return;
        };
        let left_out = || {
            let lines = text[name.start..end].matches('\n').count();
            (name.start..end, "\n".repeat(lines))
        };
        let name_text = &text[name.clone()];
        let Some(first) = arguments.first() else {
            return;
        };
        let value = unquoted(&text[first.clone()]);
        let new = match name_text {
            "listen" => {
                let family = arguments
                    .iter()
                    .filter(|word| text[(*word).clone()].starts_with("ipv6only="));
                let new = self.listen(value);
                edits.push((first.clone(), new));
                edits.extend(family.map(|word| (word.clone(), String::new())));
                return;
            }
            "http2" if !self.http2_directive => {
                edits.push(left_out());
                return;
            }
            "include" => self.include(value),
            "access_log" | "error_log" if value.starts_with('/') => {
                Some(self.prefix.join("access.log").display().to_string())
            }
            name if LEFT_OUT.contains(&name) => {
                edits.push(left_out());
                return;
            }
            name if DIRECTORIES.contains(&name) => Some(self.directory(value)),
            name if names_certificate(name) && !value.starts_with("data:") => {
                // One that is chosen by the request is read when that comes.
                (!value.contains('$')).then(|| self.certificate().display().to_string())
            }
            _ => None,
        };
        edits.extend(new.map(|new| (first.clone(), new)));
    }

    fn listen(&mut self, value: &str) -> String {
        let known = self.listens.iter().find(|(_, listen)| *listen == value);
        if let Some((address, _)) = known {
            return address.clone();
        }
        let number = self.listens.len();
        let address = if value.starts_with("unix:") {
            format!("unix:{}/{number}.sock", self.prefix.display())
        } else {
            let port = u16::try_from(number).map_or(u16::MAX, |n| FIRST_PORT.saturating_add(n));
            format!("127.0.0.1:{port}")
        };
        self.listens.insert(address.clone(), value.to_owned());
        address
    }

    fn include(&mut self, value: &str) -> Option<String> {
        // A relative one is looked for beside the main file, here as there.
        if !value.starts_with('/') {
            return None;
        }
        let pattern = value.contains(['*', '?', '[']);
        if !pattern && !self.known.contains(value) && !value.starts_with(ETC) {
            self.missing.insert(value.to_owned());
        }
        Some(format!("{}{value}", self.prefix.display()))
    }

    fn directory(&mut self, value: &str) -> String {
        let number = self.directories.len();
        let number = *self.directories.entry(value.to_owned()).or_insert(number);
        format!("{}/directory-{number}", self.prefix.display())
    }
}

/// Whether a directive names a certificate, a key or certificates of authorities.
fn names_certificate(name: &str) -> bool {
    MODULES
        .iter()
        .filter_map(|module| name.strip_prefix(module))
        .any(|rest| CERTIFICATES.contains(&rest))
}

fn unquoted(word: &str) -> &str {
    let inner = |quote| word.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(word)
}

/// The words and the signs `;`, `{` and `}` of a configuration, as nginx separates them (ngx_conf_file.c): comments are left out, and
/// a word may be in quotation marks.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'#' => {
                at += text[at..].find('\n').unwrap_or(text.len() - at);
                continue;
            }
            b';' | b'{' | b'}' => at += 1,
            quote @ (b'"' | b'\'') => {
                at += 1;
                while bytes.get(at).is_some_and(|&byte| byte != quote) {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
            }
            _ => {
                while let Some(&byte) = bytes.get(at) {
                    match byte {
                        b' ' | b'\t' | b'\r' | b'\n' | b';' => break,
                        // That of ${variable} belongs to the word.
                        b'{' if at == 0 || bytes[at - 1] != b'$' => break,
                        b'\\' => at += 2,
                        _ => at += 1,
                    }
                }
                at = at.min(bytes.len());
            }
        }
        tokens.push(start..at);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewriter(http2_directive: bool) -> Rewriter {
        let known = ["/var/lib/rolesmith/conf/edge/a.conf".to_owned()].into();
        Rewriter::new(Path::new("/p"), known, http2_directive)
    }

    #[test]
    fn words_are_nginx_words() {
        let words = |text: &'static str| -> Vec<&str> {
            tokens(text).into_iter().map(|span| &text[span]).collect()
        };
        assert_eq!(
            words("a  b;# c;\nd \"e; \\\" f\" '}' {g ${h}i;}"),
            [
                "a",
                "b",
                ";",
                "d",
                "\"e; \\\" f\"",
                "'}'",
                "{",
                "g",
                "${h}i",
                ";",
                "}"
            ]
        );
        assert_eq!(
            words("location ~ /\\.(?!w) {"),
            ["location", "~", "/\\.(?!w)", "{"]
        );
        // What is cut off ends all the same.
        assert_eq!(words("a \"b"), ["a", "\"b"]);
        assert_eq!(words("a\\"), ["a\\"]);
        assert_eq!(words("ä 'ö\\"), ["ä", "'ö\\"]);
    }

    #[test]
    fn what_leads_out_is_led_elsewhere_and_lines_stay() {
        let text = "\
server {
    listen 10.0.0.1:443 ssl http2 default_server; # listen 1;
    listen [::]:443 ssl ipv6only=on;
    listen unix:/run/x.sock;
    http2 on;
    ssl_certificate /e/a.pem;
    ssl_certificate_key
        \"/e/a.pem\";
    ssl_certificate $chosen;
    proxy_ssl_trusted_certificate /ca.pem;
    ssl_dhparam
        /e/dh.pem;
    access_log /var/log/a.log combined;
    access_log off;
    location /api/ { proxy_pass http://10.0.0.2:80; return 301 /listen; }
}
server { listen 10.0.0.1:443; }
proxy_cache_path /c/a keys_zone=a:1m;
include /var/lib/rolesmith/conf/edge/a.conf;
include /var/lib/b.conf;
include /var/lib/c/*.conf;
include snippets/d;
";
        let mut old = rewriter(false);
        let new = old.text(text);
        assert_eq!(
            new,
            "\
server {
    listen 127.0.0.1:20000 ssl http2 default_server; # listen 1;
    listen 127.0.0.1:20001 ssl ;
    listen unix:/p/2.sock;
    
    ssl_certificate /p/certificate.pem;
    ssl_certificate_key
        /p/certificate.pem;
    ssl_certificate $chosen;
    proxy_ssl_trusted_certificate /p/certificate.pem;
    

    access_log /p/access.log combined;
    access_log off;
    location /api/ { proxy_pass http://10.0.0.2:80; return 301 /listen; }
}
server { listen 127.0.0.1:20000; }
proxy_cache_path /p/directory-0 keys_zone=a:1m;
include /p/var/lib/rolesmith/conf/edge/a.conf;
include /p/var/lib/b.conf;
include /p/var/lib/c/*.conf;
include snippets/d;
"
        );
        assert_eq!(old.missing().collect::<Vec<_>>(), ["/var/lib/b.conf"]);
        assert_eq!(
            old.restore("a duplicate default server for 127.0.0.1:20000 in /p/etc/nginx/x:3"),
            "a duplicate default server for 10.0.0.1:443 in /etc/nginx/x:3"
        );
        assert!(rewriter(true).text(text).contains("    http2 on;\n"));
    }
}

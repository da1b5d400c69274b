//! What the load balancer thinks of each node, asked on haproxy's stats socket (haproxy's management guide, 9.1 and 9.3).

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde::Serialize;

/// Where haproxy listens, in the machine. The directory is made by Debian's package.
pub(crate) const SOCKET: &str = "/run/haproxy/admin.sock";

/// How long an answer may take; a machine that is frozen takes the question and is silent.
const LIMIT: Duration = Duration::from_secs(2);

/// A node as the load balancer sees it, for one of its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendStatus {
    /// `http` or `https`.
    pub service: String,
    /// The node.
    pub node: String,
    /// `UP` gets new connections, `DOWN` gets none; `UP 1/2` and `DOWN 1/2` are on the way to the other one; `MAINT` and `DRAIN` were
    /// asked for on the socket.
    pub state: String,
    /// For how long the state has been this one, in seconds.
    pub since: u64,
    /// What came of the last check, as haproxy calls it: `INI` (none yet; until then a node counts as up), `L7OK`, `L7STS` (a wrong status), `L4TOUT` (no connection in time), `L4CON` (none
    /// at all), ... Nothing where the node is not checked itself, as for `https`.
    pub check: Option<String>,
    /// The status that the check was answered with.
    pub code: Option<u16>,
    /// Connections at this moment.
    pub connections: u64,
    /// Connections since haproxy was started or given another configuration.
    pub total: u64,
}

impl BackendStatus {
    /// Whether it gets new connections.
    pub fn is_up(&self) -> bool {
        self.state.starts_with("UP")
    }
}

/// Asks haproxy in the machine with this root directory, as `/proc/PID/root` shows it: a socket's path leads to it whatever the
/// namespaces.
pub(crate) fn ask(root: &Path) -> io::Result<Vec<BackendStatus>> {
    let mut socket = UnixStream::connect(root.join(&SOCKET[1..]))?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.set_write_timeout(Some(LIMIT))?;
    // Of all proxies (-1) the servers (4).
    socket.write_all(b"show stat -1 4 -1\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    Ok(parse(&text))
}

/// Reads the CSV that `show stat` gives: a line of column names after `# `, then one line a server.
fn parse(text: &str) -> Vec<BackendStatus> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or("").trim_start_matches("# ");
    let names: Vec<String> = cells(header);
    let server = |line: &str| {
        let cells = cells(line);
        let row: BTreeMap<&str, &str> = names
            .iter()
            .map(String::as_str)
            .zip(cells.iter().map(String::as_str))
            .collect();
        let get = |name: &str| row.get(name).copied().filter(|cell| !cell.is_empty());
        let number = |name: &str| get(name).and_then(|cell| cell.parse().ok()).unwrap_or(0);
        Some(BackendStatus {
            service: get("pxname")?.to_owned(),
            node: get("svname")?.to_owned(),
            state: get("status")?.to_owned(),
            since: number("lastchg"),
            // `* ` stands before a result while the next check is under way.
            check: get("check_status").map(|cell| cell.trim_start_matches("* ").to_owned()),
            code: get("check_code").and_then(|cell| cell.parse().ok()),
            connections: number("scur"),
            total: number("stot"),
        })
    };
    lines.filter_map(server).collect()
}

/// The cells of a line of CSV (RFC 4180): some are in quotation marks, since they hold commas.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cells.last_mut().expect("never empty").push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            other => cells.last_mut().expect("never empty").push(other),
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_may_hold_commas_and_quotation_marks() {
        assert_eq!(
            cells(r#"a,,"b, c","say ""so""",d"#),
            ["a", "", "b, c", r#"say "so""#, "d"]
        );
        assert_eq!(cells(""), [""]);
    }

    #[test]
    fn servers_are_read_by_the_names_of_the_columns() {
        let text = "# pxname,svname,scur,stot,status,lastchg,check_status,check_code,last_chk,-\n\
                    http,app-1,1,20,UP,7,* L7OK,200,\"OK, or so\",\n\
                    https,app-1,3,40,UP,7,,,,\n\
                    http,app-2,0,0,DOWN 1/2,2,L4CON,,,\n\n";
        let servers = parse(text);
        let short = |server: &BackendStatus| {
            let BackendStatus {
                service,
                node,
                state,
                since,
                check,
                code,
                connections,
                total,
            } = server;
            format!("{service} {node} {state} {since} {check:?} {code:?} {connections} {total}")
        };
        assert_eq!(
            servers.iter().map(short).collect::<Vec<_>>(),
            [
                r#"http app-1 UP 7 Some("L7OK") Some(200) 1 20"#,
                "https app-1 UP 7 None None 3 40",
                r#"http app-2 DOWN 1/2 2 Some("L4CON") None 0 0"#,
            ]
        );
        assert!(servers[0].is_up() && !servers[2].is_up());
        assert_eq!(parse(""), []);
    }
}

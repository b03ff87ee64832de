//! Commands as an administrator gives them, against a scripted server on a real socket.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::stream;
use steeple_proto::spire::api::server::bundle::v1::bundle_server::BundleServer;
use steeple_proto::spire::api::server::entry::v1::entry_server::EntryServer;
use tokio::net::UnixListener;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;

use super::output::Terminal;
use super::*;

mod apply;
mod entries;
mod flags;
mod scripted;
mod scripted_bundles;
mod spire_flags;

use self::scripted::Scripted;

/// What somebody at a terminal sees of a command.
#[derive(Debug, PartialEq)]
struct Seen {
    out: String,
    err: String,
    /// What the exit code would be 1 for.
    error: Option<String>,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The command, as the shell would split it at single spaces.
fn parse(command: &str) -> Result<Cli, clap::Error> {
    parse_as(Name::Steeple, command)
}

/// The same under a name.
fn parse_as(name: Name, command: &str) -> Result<Cli, clap::Error> {
    let words = std::iter::once(name.as_str()).chain(command.split(' '));
    super::parse(name, words.map(Into::into).collect())
}

/// Runs a command against this server.
async fn run_on(server: &Scripted, terminal: Terminal, command: &str) -> Seen {
    run_as(server, Name::Steeple, terminal, command).await
}

/// The same under a name, for somebody who is not at a terminal.
async fn run_named(server: &Scripted, name: Name, command: &str) -> Seen {
    run_as(server, name, Terminal::default(), command).await
}

async fn run_as(server: &Scripted, name: Name, terminal: Terminal, command: &str) -> Seen {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let incoming = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let served = Server::builder()
        .add_service(BundleServer::new(server.clone()))
        .add_service(EntryServer::new(server.clone()))
        .add_service(HealthServer::new(server.clone()))
        .serve_with_incoming(incoming);
    tokio::select! {
        ended = served => panic!("the server ended: {ended:?}"),
        seen = run_at(&socket, name, terminal, command) => seen,
    }
}

async fn run_at(socket: &Path, name: Name, terminal: Terminal, command: &str) -> Seen {
    let command = format!("{command} --socket {}", socket.display());
    let Command::Admin(admin) = parse_as(name, &command).unwrap().command else {
        panic!("{command} asks no server");
    };
    let (out, err) = (Buffer::default(), Buffer::default());
    let mut output = Output::to(Box::new(out.clone()), Box::new(err.clone()), terminal);
    let done = admin.run(&mut output).await;
    let error = done.err().map(|error| format!("{error:#}"));
    Seen { out: out.text(), err: err.text(), error }
}

#[tokio::test]
async fn a_server_says_whether_it_is_healthy() {
    let healthy = run_on(&Scripted::default(), Terminal::default(), "healthcheck").await;
    let expected = |out: &str| Seen { out: out.into(), err: String::new(), error: None };
    assert_eq!(healthy, expected("Server is healthy.\n"));

    let sick = Scripted { is_sick: true, ..Scripted::default() };
    let seen = run_on(&sick, Terminal::default(), "healthcheck").await;
    let error = Some(
        "server is unhealthy: server returned status \"NOT_SERVING\": the disk is full".to_owned(),
    );
    assert_eq!(seen, Seen { out: String::new(), err: String::new(), error: error.clone() });

    let seen = run_on(&sick, Terminal::default(), "healthcheck --output json").await;
    assert_eq!(
        seen,
        Seen {
            out: "{\"detail\":\"the disk is full\",\"healthy\":false}\n".into(),
            err: String::new(),
            error
        }
    );

    let seen = run_on(&sick, Terminal::default(), "healthcheck -shallow").await;
    assert_eq!(seen, expected("Server is healthy.\n"));
    let seen = run_on(&Scripted::default(), Terminal::default(), "healthcheck -verbose").await;
    assert_eq!(seen.out, "Checking server health...\nServer is healthy.\n");
    assert!(seen.err.starts_with("The admin socket is /"), "{}", seen.err);
}

#[tokio::test]
async fn without_a_server_the_error_says_where_it_was_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = directory.path().join("nobody.sock");
    let check = async |socket: &Path, cause: &str| {
        let seen = run_at(socket, Name::Steeple, Terminal::default(), "entry count").await;
        let error = seen.error.unwrap();
        assert!(error.starts_with("cannot connect to a server at "), "{error}");
        assert!(error.contains(&socket.display().to_string()), "{error}");
        assert!(error.contains(cause), "{error}");
    };
    check(&nobody, "is the server running? --socket or STEEPLE_SERVER_SOCKET says").await;
    drop(UnixListener::bind(&nobody).unwrap());
    check(&nobody, "the server that made this socket has stopped").await;
}

//! A connection that outlives the process that made it, while another process has its number.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use steeple_proto::workload::X509svidRequest;
use steeple_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use tonic::transport::Endpoint;

use crate::harness::process::command;
use crate::harness::workload::request;
use crate::harness::{Deployment, bin, eventually, is_root};

/// Which part of the test a process of this program plays.
const PART: &str = "STEEPLE_TEST_PART";
/// The directory of the deployment.
const DIRECTORY: &str = "STEEPLE_TEST_DIRECTORY";

/// A process of this program that plays a part.
fn player(prefix: &[&str], part: &str) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut words: Vec<_> = prefix.iter().map(PathBuf::from).collect();
    words.push(program);
    let mut command = command(&words[0]);
    command.args(&words[1..]).args(["faults::pids::plays_a_part", "--exact", "--nocapture"]);
    command.env(PART, part).env("STEEPLE_BIN_DIR", bin::agent().parent().unwrap());
    command
}

#[test]
fn a_number_that_is_given_to_somebody_else_entitles_nobody() {
    if !is_root("a PID that is given to another process") {
        return;
    }
    let prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let output = player(&prefix, "all").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("as it should be"), "{said}");
}

#[test]
fn plays_a_part() {
    match std::env::var(PART).as_deref() {
        Ok("all") => {
            for waits in [false, true] {
                in_a_namespace_of_its_own(waits);
            }
            println!("as it should be");
        }
        Ok("predecessor") => predecessor(),
        Ok("heir") => heir(),
        Ok(other) => panic!("{other}"),
        Err(_) => {}
    }
}

/// `waits` says whether the agent accepts the connection only when the number is another's.
fn in_a_namespace_of_its_own(waits: bool) {
    let node = Deployment::start();
    let entitled = node.dir.copy(&bin::agent(), "entitled");
    node.register("/entitled", &[&format!("unix:path:{}", entitled.display())]);
    eventually("the entry arrives", || {
        let mut fetch = command(&entitled);
        fetch.args(["api", "fetch", "x509"]).env("SPIFFE_ENDPOINT_SOCKET", node.endpoint());
        fetch.output().unwrap().status.success().then_some(())
    });

    if waits {
        node.agent.signal(Signal::SIGSTOP);
    }
    let mut first = player(&[], "predecessor");
    let mut first = first.env(DIRECTORY, node.dir.path("")).stdout(Stdio::piped()).spawn().unwrap();
    let mut reports = BufReader::new(first.stdout.take().unwrap());
    assert!(first.wait().unwrap().success());
    let mut other = with_number(first.id(), &entitled, &node);
    if waits {
        node.agent.signal(Signal::SIGCONT);
    }
    // Whoever has the number now is served what it is entitled to.
    let mut served = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut served).unwrap();
    assert!(served.contains("spiffe://example.org/entitled"), "{served}");

    fs::write(node.dir.path("go"), "").unwrap();
    let mut report = String::new();
    reports.read_to_string(&mut report).unwrap();
    println!("{report}");
    assert!(report.contains("refused: "), "{report}");
    other.kill().unwrap();
    other.wait().unwrap();
}

/// A watcher whose process has this number.
fn with_number(pid: u32, program: &Path, node: &Deployment) -> Child {
    for _ in 0..100 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let mut watch = command(program);
        watch.args(["api", "watch", "--output", "json"]).stdout(Stdio::piped());
        let mut child = watch.env("SPIFFE_ENDPOINT_SOCKET", node.endpoint()).spawn().unwrap();
        if child.id() == pid {
            return child;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("the number {pid} was not to be had");
}

/// Connects, leaves the connection to a child, and is gone.
#[expect(clippy::zombie_processes, reason = "the child outlives this process, as it should")]
fn predecessor() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let connection = UnixStream::connect(directory.join("agent/api.sock")).unwrap();
    player(&[], "heir").stdin(OwnedFd::from(connection)).spawn().unwrap();
}

/// Asks over the connection that it was left, when it is told to.
fn heir() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let connection = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    eventually("the word", || directory.join("go").exists().then_some(()));
    let connection = UnixStream::from(connection);
    connection.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let mut connection = Some(tokio::net::UnixStream::from_std(connection).unwrap());
        let connector = tower::service_fn(move |_| {
            let connection = connection.take().map(TokioIo::new);
            async move { connection.ok_or_else(|| std::io::Error::other("there is but one")) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connector).await?;
        let mut client = SpiffeWorkloadApiClient::new(channel);
        let mut stream = client.fetch_x509svid(request(X509svidRequest {})).await?.into_inner();
        stream.message().await.map_err(Box::<dyn std::error::Error>::from)
    });
    match answer {
        Ok(message) => println!("\nserved {message:?}"),
        Err(error) => println!("\nrefused: {error}"),
    }
}

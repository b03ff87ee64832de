//! A server with several agents, which have a token or a certificate of a PKI that is there already.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use serde_json::Value;

use crate::harness::process::{Process, command};
use crate::harness::{
    Dir, Joins, Settings, bin, eventually, port, start_server, stderr, stdout, try_admin,
};

/// What the certificates of nodes say besides who they are.
const CLUSTER: &str = "x509pop://example.org/cluster/test";

/// The selector that this gives them.
pub(super) const CLUSTER_SELECTOR: &str = "x509pop:san:cluster:test";

/// A server.
pub(super) struct Fleet {
    pub(super) dir: Dir,
    pub(super) server: Process,
    port: u16,
    authority: Issuer<'static, KeyPair>,
}

/// One of its agents.
pub(super) struct Member {
    pub(super) process: Process,
    /// The SPIFFE ID of the agent.
    pub(super) id: String,
    name: String,
    home: PathBuf,
}

impl Fleet {
    pub(super) fn start(server: &'static str) -> Self {
        let dir = Dir::new();
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new([]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        fs::write(dir.path("node-ca.pem"), ca.self_signed(&key).unwrap().pem()).unwrap();
        let authority = Issuer::new(ca, key);
        let settings = Settings { server, joins: Joins::ByCertificate, ..Settings::default() };
        let server = start_server(&dir, settings, 0);
        let port = port(&server);
        let fleet = Self { dir, server, port, authority };
        fs::write(fleet.dir.path("bundle.pem"), fleet.admin(&["bundle", "show"])).unwrap();
        fleet
    }

    /// Starts the server again with other lines in its configuration.
    pub(super) fn restart_server(&mut self, server: &'static str) {
        self.server.kill();
        let settings = Settings { server, joins: Joins::ByCertificate, ..Settings::default() };
        self.server = start_server(&self.dir, settings, self.port);
    }

    /// An agent that can attest as often as it likes.
    pub(super) fn join_by_certificate(&self, name: &str) -> Member {
        let mut node = CertificateParams::new([]).unwrap();
        node.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        node.subject_alt_names.push(SanType::URI(Ia5String::try_from(CLUSTER).unwrap()));
        let key = KeyPair::generate().unwrap();
        let certificate = node.signed_by(&key, &self.authority).unwrap().pem();
        fs::write(self.dir.path(&format!("{name}.pem")), certificate).unwrap();
        fs::write(self.dir.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        let (key, certificate) = (format!("../{name}.key"), format!("../{name}.pem"));
        self.join(name, &format!(
            "[node_attestor.x509pop]\nprivate_key_path = \"{key}\"\ncertificate_path = \"{certificate}\"\n"
        ))
    }

    /// An agent that can attest once.
    pub(super) fn join_by_token(&self, name: &str, token: &str) -> Member {
        self.join(name, &format!("join_token = \"{token}\"\n"))
    }

    fn join(&self, name: &str, attestor: &str) -> Member {
        let before = self.agents();
        let home = self.prepare(name, attestor);
        let process = launch(&home);
        process.wait_for("Starting agent APIs");
        process.wait_for("synced");
        let id = self.agents().into_iter().find(|id| !before.contains(id)).unwrap();
        Member { process, id, name: name.into(), home }
    }

    /// Starts an agent that is not expected to be let in.
    pub(super) fn launch_by_token(&self, name: &str, token: &str) -> Process {
        launch(&self.prepare(name, &format!("join_token = \"{token}\"\n")))
    }

    /// Writes what an agent is started with, and says where its things are.
    fn prepare(&self, name: &str, attestor: &str) -> PathBuf {
        let home = self.dir.path(name);
        fs::create_dir(&home).unwrap();
        let text = format!(
            "server = \"127.0.0.1:{}\"\ntrust_domain = \"example.org\"\ndata_dir = \"{}\"\n\
             socket_path = \"{}\"\ntrust_bundle = \"{}\"\nsync_interval = \"1s\"\n{attestor}",
            self.port,
            self.dir.path(&format!("{name}-data")).display(),
            home.join("api.sock").display(),
            self.dir.path("bundle.pem").display(),
        );
        fs::write(home.join("agent.toml"), text).unwrap();
        home
    }

    /// What an admin command prints, which must succeed.
    pub(super) fn admin(&self, arguments: &[&str]) -> String {
        let output = try_admin(&self.dir, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    pub(super) fn admin_json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.admin(&arguments)).unwrap()
    }

    /// The IDs of the agents that the server knows.
    pub(super) fn agents(&self) -> Vec<String> {
        let list = self.admin_json(&["agent", "list"]);
        let agents = list["agents"].as_array().cloned().unwrap_or_default();
        let id = |agent: &Value| {
            format!("spiffe://example.org{}", agent["id"]["path"].as_str().unwrap())
        };
        agents.iter().map(id).collect()
    }

    /// Makes a token, with a further name for the agent that it lets in.
    pub(super) fn token(&self, alias: &str) -> String {
        let token = self.admin_json(&["token", "generate", "--spiffe-id", alias]);
        token["value"].as_str().unwrap().to_owned()
    }

    /// Registers an entry, and returns its ID.
    pub(super) fn register(&self, path: &str, parent: &str, more: &[&str]) -> String {
        let id = format!("spiffe://example.org{path}");
        let mut arguments = vec!["entry", "create", "--spiffe-id", &id, "--parent-id", parent];
        arguments.extend(more);
        let created = self.admin_json(&arguments);
        created["results"][0]["entry"]["id"].as_str().unwrap().to_owned()
    }
}

impl Member {
    /// Starts it again.
    pub(super) fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.home);
    }

    /// Runs a command of the agent's as one of its workloads.
    pub(super) fn workload(&self, arguments: &[&str]) -> Output {
        let mut command = command(&bin::agent());
        command.args(arguments).env("SPIFFE_ENDPOINT_SOCKET", self.endpoint()).output().unwrap()
    }

    /// The same as another user, by a copy of the program that it may read.
    pub(super) fn workload_of(&self, uid: u32, program: &Path, arguments: &[&str]) -> Output {
        let mut command = command(program);
        command.args(arguments).env("SPIFFE_ENDPOINT_SOCKET", self.endpoint());
        command.uid(uid).gid(uid).output().unwrap()
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.home.join("api.sock")
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The SVIDs of this process, as the agent's command line prints them; none where it is refused.
    pub(super) fn svids(&self) -> Vec<Value> {
        let output = self.workload(&["api", "fetch", "x509", "--output", "json"]);
        if !output.status.success() {
            return Vec::new();
        }
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
        answer["svids"].as_array().unwrap().clone()
    }

    /// Waits until this process has just these identities here.
    #[track_caller]
    pub(super) fn wait_for_ids(&self, expected: &[&str]) {
        let mut expected: Vec<_> =
            expected.iter().map(|path| format!("spiffe://example.org{path}")).collect();
        expected.sort_unstable();
        eventually(&format!("{} has {expected:?}", self.name), || {
            let svids = self.svids();
            let id = |svid: &Value| svid["spiffe_id"].as_str().unwrap().to_owned();
            let mut found: Vec<_> = svids.iter().map(id).collect();
            found.sort_unstable();
            (found == expected).then_some(())
        });
    }
}

fn launch(home: &Path) -> Process {
    Process::start(command(&bin::agent()).arg("run").arg("--config").arg(home.join("agent.toml")))
}

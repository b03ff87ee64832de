//! The command line as a client of an agent that does as a test says.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use steeple::clock::{Clock as _, SystemClock};
use steeple::id::TrustDomain;
use steeple::keys::{KeyAlgorithm, PrivateKey, Signer as _};
use steeple::tasks::Tasks;
use steeple::x509::Subject;
use steeple::x509::make::{CaRequest, Issuer, SvidRequest, Validity, self_signed_ca};
use steeple_proto::workload::spiffe_workload_api_server::{
    SpiffeWorkloadApi, SpiffeWorkloadApiServer,
};
use steeple_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest,
    WitsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest,
    X509svidResponse,
};
use tokio_stream::Iter;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tracing::Span;

use super::*;
use crate::app;
use crate::endpoint::{self, Endpoint};

mod spire_flags;

type Answers<T> = Iter<std::vec::IntoIter<Result<T, Status>>>;

/// What was asked: which call, and with which values of the security header.
type Asked = Arc<Mutex<Vec<(&'static str, Vec<String>)>>>;

/// Says to every call what it was told to, and notes it. Streams have messages before that.
#[derive(Clone)]
struct Scripted {
    messages: Vec<X509svidResponse>,
    status: Status,
    asked: Asked,
}

impl Scripted {
    fn ask<T>(&self, call: &'static str, request: &Request<T>) -> Status {
        let values = request.metadata().get_all("workload.spiffe.io").iter();
        let values = values.map(|value| value.to_str().unwrap().to_owned()).collect();
        self.asked.lock().unwrap().push((call, values));
        self.status.clone()
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Scripted {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;
    type FetchWITSVIDStream = Answers<WitsvidResponse>;
    type FetchWITBundlesStream = Answers<WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let last = Err(self.ask("FetchX509SVID", &request));
        let messages: Vec<_> = self.messages.iter().cloned().map(Ok).chain([last]).collect();
        Ok(Response::new(tokio_stream::iter(messages)))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Err(self.ask("FetchX509Bundles", &request))
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        Err(self.ask("FetchJWTSVID", &request))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Err(self.ask("FetchJWTBundles", &request))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        Err(self.ask("ValidateJWTSVID", &request))
    }

    async fn fetch_witsvid(
        &self,
        request: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        Err(self.ask("FetchWITSVID", &request))
    }

    async fn fetch_wit_bundles(
        &self,
        request: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        Err(self.ask("FetchWITBundles", &request))
    }
}

/// What was printed.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a command against an agent; gives its error and what it printed.
async fn run_against(api: Scripted, command: &[&str]) -> (Option<String>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let endpoint = Endpoint::bind(endpoint::Config::new(path.clone())).await.unwrap();
    let tasks = Tasks::new();
    let routes = Routes::new(SpiffeWorkloadApiServer::new(api));
    tasks.spawn(Span::none(), |stop| endpoint.serve(routes, app::pin, stop));
    let cli = parse(command, &path);
    // It has a runtime of its own.
    let (error, printed) = tokio::task::spawn_blocking(move || {
        let printed = Printed::default();
        let outcome = run(cli, &mut Output::into(printed.clone()));
        (outcome.err().map(|error| format!("{error:#}")), printed.0.lock().unwrap().clone())
    })
    .await
    .unwrap();
    (error, String::from_utf8(printed).unwrap())
}

fn parse(command: &[&str], socket: &Path) -> Cli {
    let socket = socket.to_str().unwrap();
    let words = [&["steeple-agent"], command, &["--socket", socket]].concat();
    Cli::try_parse_from(words).unwrap()
}

/// WEP-05, WEP-13, WEP-17: every call has the header, and is not made again where that is no use.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_the_security_header_and_is_made_once() {
    for (command, calls) in [
        (&["api", "fetch", "x509"][..], &["FetchX509SVID"]),
        (&["api", "fetch", "jwt", "--audience", "a"], &["FetchJWTSVID"]),
        (&["api", "validate", "jwt", "--audience", "a", "--svid", "b"], &["ValidateJWTSVID"]),
        (&["api", "watch"], &["FetchX509SVID"]),
    ] {
        for status in [Status::invalid_argument("so it is"), Status::unimplemented("so it is")] {
            let asked = Asked::default();
            let api = Scripted { messages: Vec::new(), status, asked: asked.clone() };
            let (error, _) = run_against(api, command).await;
            assert!(error.unwrap().contains("so it is"), "{command:?}");
            let expected = calls.iter().map(|call| (*call, vec!["true".to_owned()]));
            assert_eq!(*asked.lock().unwrap(), expected.collect::<Vec<_>>(), "{command:?}");
        }
    }
}

/// A message with one SVID that is good now.
fn message() -> X509svidResponse {
    let trust_domain: TrustDomain = "td".parse().unwrap();
    let [ca_key, key] =
        [(); 2].map(|()| Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap()));
    let validity = Validity::new(SystemClock.now(), Duration::from_secs(3600));
    let ca = CaRequest { trust_domain: &trust_domain, subject: &Subject::default(), validity };
    let root = self_signed_ca(&ca, &*ca_key).unwrap();
    let issuer = Arc::new(Issuer::new(&root, ca_key).unwrap());
    let wanted = SvidRequest {
        spiffe_id: &"spiffe://td/web".parse().unwrap(),
        public_key: key.public_key(),
        dns_names: &[],
        subject: None,
        validity,
    };
    let svid = issuer.prepare_svid(&wanted).unwrap().sign().unwrap();
    let svid = X509svid {
        spiffe_id: svid.spiffe_id().to_string(),
        x509_svid: svid.chain().concatenated(),
        x509_svid_key: key.pkcs8().unwrap().expose().to_vec(),
        bundle: root.concatenated(),
        hint: "first".into(),
    };
    X509svidResponse { svids: vec![svid], ..Default::default() }
}

/// WAPI-12: what a message leaves out or leaves empty is gone.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_earlier_message_is_kept() {
    let bare = message();
    let mut full = bare.clone();
    full.federated_bundles.insert("spiffe://b".into(), bare.svids[0].bundle.clone());
    let mut plain = bare.clone();
    plain.svids[0].hint.clear();
    let messages = vec![full, plain];
    let status = Status::unimplemented("the end");
    let api = Scripted { messages, status, asked: Asked::default() };
    let (error, printed) = run_against(api, &["api", "watch", "--output", "json"]).await;
    assert!(error.unwrap().contains("the end"));
    let lines: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown = |line: &serde_json::Value| {
        let hint = line["svids"][0]["hint"].as_str().unwrap().to_owned();
        (hint, line["federated_bundles"].as_object().unwrap().len())
    };
    assert_eq!(
        lines.iter().map(shown).collect::<Vec<_>>(),
        [("first".into(), 1), (String::new(), 0)]
    );
}

/// A directory has the files of one message, whatever an earlier run left there.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_those_of_one_message_or_of_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let fetch = async |message: &X509svidResponse| {
        let api = Scripted {
            messages: vec![message.clone()],
            status: Status::unavailable("the end"),
            asked: Asked::default(),
        };
        run_against(api, &["api", "fetch", "x509", "--write", path.to_str().unwrap()]).await
    };
    let names = || {
        let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect::<std::collections::BTreeSet<_>>()
    };
    std::fs::write(path.join("svid.x.pem"), "of somebody else").unwrap();
    let mut two = message();
    two.svids.push(two.svids[0].clone());
    two.federated_bundles.insert("spiffe://b".into(), two.svids[0].bundle.clone());
    let (error, printed) = fetch(&two).await;
    assert_eq!(error, None);
    assert!(printed.contains("Writing SVID #1 to file "), "{printed}");
    assert_eq!(names().len(), 1 + 2 * 4, "{:?}", names());
    let one = message();
    assert_eq!(fetch(&one).await.0, None);
    let left = ["bundle.0.pem", "svid.0.key", "svid.0.pem", "svid.x.pem"];
    assert_eq!(names(), left.map(ToOwned::to_owned).into());
    let key = std::fs::read_to_string(path.join("svid.0.key")).unwrap();
    assert_eq!(key, steeple::x509::pem("PRIVATE KEY", &one.svids[0].x509_svid_key));
    // What cannot be written whole changes nothing.
    std::fs::create_dir(path.join("svid.1.pem")).unwrap();
    let before = names();
    let (error, printed) = fetch(&two).await;
    assert!(error.unwrap().contains("svid.1.pem") && !printed.contains("Writing"), "{printed}");
    assert_eq!(names(), before);
    assert_eq!(std::fs::read_to_string(path.join("svid.0.key")).unwrap(), key);
}

/// A banned node has no entry that would help.
#[test]
fn a_denial_is_explained_by_what_it_says() {
    let told = |message| client::explain(&Status::permission_denied(message)).to_string();
    assert!(told("no identity issued").contains("no registration entry"));
    let banned = told("no identity issued: the server has banned this node");
    assert!(banned.contains("agent evict") && !banned.contains("entry show"), "{banned}");
}

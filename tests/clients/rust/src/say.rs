//! What is printed: one JSON object a line.

use base64ct::{Base64, Encoding};
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::{Map, Value, json};
use spiffe::transport::TransportError;
use spiffe::workload_api::WorkloadApiError;
use spiffe::{Certificate, JwtBundleSet, X509BundleSet, X509Context};

pub fn event(name: &str, fields: &[(&str, Value)]) {
    let mut object = Map::from_iter([("event".to_owned(), name.into())]);
    object.extend(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    println!("{}", Value::Object(object));
}

/// Says of a call that failed with which code it did.
pub fn answer<T>(call: &str, result: Result<T, WorkloadApiError>) -> Option<T> {
    result.inspect_err(|error| failed(call, error)).ok()
}

fn failed(call: &str, error: &WorkloadApiError) {
    let code = match error {
        WorkloadApiError::NoIdentityIssued | WorkloadApiError::PermissionDenied(_) => {
            "permission_denied".to_owned()
        }
        WorkloadApiError::Transport(TransportError::Status(status)) => status.code().to_string(),
        other => other.to_string(),
    };
    event("failed", &[("call", call.into()), ("code", code.to_uppercase().into())]);
}

pub fn x509(context: &X509Context) {
    let svids = context.svids().iter().map(
        |svid| json!({"id": svid.spiffe_id().to_string(), "chain": encoded(svid.cert_chain())}),
    );
    let bundles = x509_bundles(context.bundle_set());
    event("x509", &[("svids", svids.collect()), ("bundles", bundles)]);
}

pub fn x509_bundles(set: &X509BundleSet) -> Value {
    set.iter().map(|(domain, bundle)| (domain.to_string(), encoded(bundle.authorities()))).collect()
}

pub fn jwt_bundles(set: &JwtBundleSet) {
    let bundles: Value = set
        .iter()
        .map(|(domain, bundle)| {
            let ids: Value = bundle.jwt_authorities().map(|key| key.key_id().to_owned()).collect();
            (domain.to_string(), ids)
        })
        .collect();
    event("jwt_bundles", &[("bundles", bundles)]);
}

pub fn encode(der: &[u8]) -> Value {
    Base64::encode_string(der).into()
}

pub fn encoded(certificates: &[Certificate]) -> Value {
    certificates.iter().map(|certificate| encode(certificate.as_bytes())).collect()
}

/// The crate says of a stream that ended, and that it tries again, nowhere but in its log.
pub fn log() {
    log::set_logger(&Lost).expect("there is no other");
    log::set_max_level(LevelFilter::Warn);
}

struct Lost;

impl Log for Lost {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        eprintln!("{text}");
        let Some((_, error)) = text.split_once("stream error; reconnecting: ") else { return };
        let code = match error.split_once("gRPC status ") {
            Some((_, status)) => status.split(':').next().unwrap_or_default(),
            None if error.contains("no identity issued") => "permission_denied",
            None => error,
        };
        event("lost", &[("code", code.to_uppercase().into()), ("retries", true.into())]);
    }

    fn flush(&self) {}
}

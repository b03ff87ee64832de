//! What makes the agent of a test an agent: a token, or a certificate of its own.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::{Dir, Joins};

/// Lines at the end of `server.toml`.
pub(crate) fn of_server(joins: Joins) -> &'static str {
    match joins {
        Joins::ByToken => "",
        Joins::ByCertificate => "[node_attestor.x509pop]\nca_bundle_paths = [\"../node-ca.pem\"]\n",
    }
}

/// Lines at the end of `agent.toml`.
pub(crate) fn of_agent(joins: Joins) -> &'static str {
    match joins {
        Joins::ByToken => "join_token_file = \"../join-token\"\n",
        Joins::ByCertificate => {
            "[node_attestor.x509pop]\nprivate_key_path = \"../node.key\"\n\
             certificate_path = \"../node.pem\"\n"
        }
    }
}

/// The certificate of a node, and of the authority that made it.
pub(crate) fn write_certificates(dir: &Dir) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    fs::write(dir.path("node-ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut node = CertificateParams::new([]).unwrap();
    node.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    fs::write(dir.path("node.pem"), node.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(dir.path("node.key"), key.serialize_pem()).unwrap();
}

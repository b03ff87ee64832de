//! The plugins of a server: which are here, and under what name.

use std::path::Path;

use super::hcl::{Item, Value};
use super::translation::{Base, Fate, Kind, Row, Translation, inside, quoted, text};
use crate::node_attest::path_template::PathTemplate;
use crate::node_attest::x509pop;
use Fate::{As, Block, Elsewhere, Moot, No, Unless};

/// A plugin as it is configured.
pub(super) struct Plugin {
    /// What kind it is of.
    pub(super) kind: String,
    pub(super) name: String,
    /// Where it stands.
    pub(super) item: Item,
    /// Its own settings.
    pub(super) settings: Vec<Item>,
}

const EXTERNAL: &str = "programs of others are not started as plugins";

/// What a plugin is told by whoever starts it.
const OUTER: &[Row] = &[
    // Empty they stand in many a file for a plugin that is built in.
    ("plugin_cmd", Unless("", EXTERNAL)),
    ("plugin_args", No(EXTERNAL)),
    ("plugin_checksum", Unless("", EXTERNAL)),
    ("plugin_data_file", No("put what is in that file into plugin_data, and import again")),
    ("plugin_data", Block),
    ("enabled", Elsewhere(Kind::Bool)),
];

const X509POP: &[Row] = &[
    (
        "mode",
        Unless(
            "external_pki",
            "only certificates of an existing PKI are taken, and no SVIDs of another server",
        ),
    ),
    ("ca_bundle_path", Elsewhere(Kind::Path)),
    ("ca_bundle_paths", Elsewhere(Kind::Texts)),
    ("agent_path_template", Elsewhere(Kind::Text)),
    ("max_intermediates", As("max_intermediates", Kind::Integer)),
    ("max_rsa_key_size", As("max_rsa_key_size", Kind::Integer)),
    (
        "verify_client_ip",
        Unless("false", "the address of a node is not compared with its certificate"),
    ),
    ("spiffe_prefix", No("it belongs to the mode spiffe, which is not there")),
    (
        "svid_prefix",
        No(
            "it belongs to the mode spiffe, which is not there; SPIRE itself calls it spiffe_prefix",
        ),
    ),
];

const POOL: &str = "SQLite is part of the server, and has no connections to count";

const SQL: &[Row] = &[
    ("database_type", Elsewhere(Kind::Text)),
    ("connection_string", Elsewhere(Kind::Text)),
    ("ro_connection_string", Moot(POOL)),
    ("root_ca_path", Moot(POOL)),
    ("client_cert_path", Moot(POOL)),
    ("client_key_path", Moot(POOL)),
    ("max_open_conns", Moot(POOL)),
    ("max_idle_conns", Moot(POOL)),
    ("conn_max_lifetime", Moot(POOL)),
    ("disable_migration", Unless("false", "the server always brings its database up to date")),
    ("log_sql", Unless("false", "statements are not logged")),
];

const UPSTREAM_DISK: &[Row] = &[
    ("cert_file_path", As("cert_file_path", Kind::Path)),
    ("key_file_path", As("key_file_path", Kind::Path)),
    ("bundle_file_path", As("bundle_file_path", Kind::Path)),
];

const UPSTREAM_SPIRE: &[Row] = &[
    ("server_address", As("server_address", Kind::Text)),
    ("server_port", As("server_port", Kind::Integer)),
    ("workload_api_socket", As("workload_api_socket", Kind::Path)),
    ("experimental", No("nothing of it is there: X25519MLKEM768 is offered on every connection")),
];

/// The plugins that are switched on, in the order of the file.
pub(super) fn all(items: &[Item], base: &Base, out: &mut Translation) -> Vec<Plugin> {
    let mut plugins = Vec::new();
    for kind in items {
        if !out.is_block(kind, &format!("plugins.{}", kind.key)) {
            continue;
        }
        for item in inside(std::slice::from_ref(kind), &kind.key) {
            let path = format!("plugins.{}.{}", kind.key, item.key);
            if !out.is_block(&item, &path) {
                continue;
            }
            let outer = inside(std::slice::from_ref(&item), &item.key);
            if outer.iter().any(|one| one.key == "enabled" && text(&one.value) == "false") {
                out.note(&item, &path, "it is switched off");
                continue;
            }
            let settings = out.carry((&path, &outer), OUTER, base).inside("plugin_data");
            let is_command = |one: &Item| one.key == "plugin_cmd" && !text(&one.value).is_empty();
            if outer.iter().any(is_command) {
                continue;
            }
            let (kind, name) = (kind.key.clone(), item.key.clone());
            plugins.push(Plugin { kind, name, item, settings });
        }
    }
    plugins
}

/// Whether it keeps records in memory.
pub(super) fn forgets(plugin: &Plugin) -> bool {
    let setting = |key: &str| {
        let item = plugin.settings.iter().find(|item| item.key == key);
        item.map(|item| text(&item.value)).unwrap_or_default()
    };
    let is_sqlite = plugin.kind == "DataStore" && setting("database_type") == "sqlite3";
    is_sqlite && database(&setting("connection_string")).is_none()
}

/// Makes settings of a server's plugin, beside those of a datastore that forgets or not.
pub(super) fn translate(plugin: &Plugin, forgets: bool, base: &Base, out: &mut Translation) {
    match (plugin.kind.as_str(), plugin.name.as_str()) {
        ("DataStore", "sql") => datastore(plugin, base, out),
        ("KeyManager", "disk") if forgets => {
            let rows = [("keys_path", Elsewhere(Kind::Path))];
            out.carry((&plugin.inner_path(), &plugin.settings), &rows, base);
            out.table("[key_store]", &[("type", quoted("memory"))]);
            let why = "beside records in memory, keys are in memory as well: no start knows those of \
                       the one before";
            out.note(&plugin.item, &plugin.path(), why);
        }
        ("KeyManager", "disk") => key_directory(plugin, base, out),
        ("KeyManager", "memory") => plugin.table("[key_store]", &[], base, out),
        ("NodeAttestor", "join_token") => {
            out.carry((&plugin.inner_path(), &plugin.settings), &[], base);
            out.table("[node_attestor.join_token]", &[("enabled", "true".into())]);
        }
        ("NodeAttestor", "x509pop") => x509pop_server(plugin, base, out),
        ("UpstreamAuthority", "disk") => {
            plugin.table("[upstream_authority]", UPSTREAM_DISK, base, out);
        }
        ("UpstreamAuthority", "spire") => {
            plugin.table("[upstream_authority]", UPSTREAM_SPIRE, base, out);
        }
        (kind, _) => out.leave_out(&plugin.item, &plugin.path(), missing(kind)),
    }
}

impl Plugin {
    pub(super) fn path(&self) -> String {
        format!("plugins.{}.{}", self.kind, self.name)
    }

    /// Where its settings stand.
    pub(super) fn inner_path(&self) -> String {
        format!("{}.plugin_data", self.path())
    }

    /// A table of its type and what the rows have of its settings.
    fn table(&self, header: &str, rows: &[Row], base: &Base, out: &mut Translation) {
        let mut settings = vec![("type", quoted(&self.name))];
        settings.extend(out.carry((&self.inner_path(), &self.settings), rows, base).settings);
        out.table(header, &settings);
    }
}

/// What to do without a plugin of this kind.
fn missing(kind: &str) -> &'static str {
    match kind {
        "DataStore" => "records are kept in SQLite or in memory: `[datastore]`",
        "KeyManager" => {
            "keys are kept in a directory, in memory or in a PKCS #11 token: `[key_store]`"
        }
        "NodeAttestor" => "nodes join with a token or with a certificate: `[node_attestor]`",
        "UpstreamAuthority" => {
            "what signs the server's CA is in files, or is another server: `[upstream_authority]`"
        }
        "Notifier" | "BundlePublisher" => {
            "bundles are not published; `bundle show -format spiffe`, started by a timer, prints the one to publish"
        }
        "CredentialComposer" => {
            "what is in a credential is fixed, but for the subject of the CA: `[ca_subject]`"
        }
        _ => "there are no such plugins",
    }
}

fn datastore(plugin: &Plugin, base: &Base, out: &mut Translation) {
    let path = plugin.inner_path();
    let carried = out.carry((&path, &plugin.settings), SQL, base);
    let kind = carried.item("database_type");
    let connection = carried.item("connection_string");
    if kind.is_none_or(|kind| text(&kind.value) != "sqlite3") {
        let item = kind.unwrap_or(&plugin.item);
        out.leave_out(item, &format!("{path}.database_type"), missing("DataStore"));
        if let Some(item) = connection {
            let why = "it names a database that the server does not use";
            out.leave_out(item, &format!("{path}.connection_string"), why);
        }
        return;
    }
    let connection = connection.map(|item| text(&item.value)).unwrap_or_default();
    let Some(file) = database(&connection) else {
        return out.table("[datastore]", &[("type", quoted("memory"))]);
    };
    let beside = Path::new(file).with_file_name("steeple.sqlite");
    let beside = base.absolute(&beside.to_string_lossy());
    out.table_because(
        "[datastore]",
        &[("type", quoted("sqlite")), ("path", quoted(&beside))],
        "Beside SPIRE's database, which has another form.",
    );
    let item = carried.item("connection_string").unwrap_or(&plugin.item);
    out.note(
        item,
        &format!("{path}.connection_string"),
        "the new database starts empty: take entries over with `spire-server entry show -output json` and \
         `steeple-server entry create --data`",
    );
}

/// The file that a connection string of SQLite's names, if it is not in memory.
fn database(connection: &str) -> Option<&str> {
    let file = connection.strip_prefix("file:").unwrap_or(connection);
    let file = file.split('?').next().unwrap_or_default();
    (!file.is_empty() && !file.contains(":memory:")).then_some(file)
}

fn key_directory(plugin: &Plugin, base: &Base, out: &mut Translation) {
    let path = plugin.inner_path();
    let rows = [("keys_path", Elsewhere(Kind::Path))];
    let carried = out.carry((&path, &plugin.settings), &rows, base);
    let Some(keys) = carried.item("keys_path") else {
        return out.leave_out(&plugin.item, &format!("{path}.keys_path"), "it is missing");
    };
    let beside = Path::new(&text(&keys.value)).with_file_name("steeple-keys");
    let beside = base.absolute(&beside.to_string_lossy());
    out.table_because(
        "[key_store]",
        &[("type", quoted("directory")), ("path", quoted(&beside))],
        "Beside SPIRE's file of keys, which has another form.",
    );
    out.note(
        keys,
        &format!("{path}.keys_path"),
        "keys are made anew, so agents need the new bundle: `steeple-server bundle show`",
    );
}

fn x509pop_server(plugin: &Plugin, base: &Base, out: &mut Translation) {
    let path = plugin.inner_path();
    let mut carried = out.carry((&path, &plugin.settings), X509POP, base);
    let mut settings = std::mem::take(&mut carried.settings);
    let mut bundles = Vec::new();
    for key in ["ca_bundle_path", "ca_bundle_paths"] {
        let Some(item) = carried.item(key) else { continue };
        let values = if let Value::List(values) = &item.value {
            values.as_slice()
        } else {
            std::slice::from_ref(&item.value)
        };
        for value in values {
            match base.literal(value, Kind::Path) {
                Ok(bundle) => bundles.push(bundle),
                Err(why) => out.leave_out(item, &format!("{path}.{key}"), &why),
            }
        }
    }
    if let Some(item) = carried.item("agent_path_template") {
        let template = text(&item.value);
        match PathTemplate::new(&template, x509pop::TEMPLATE_NAMES) {
            Ok(_) => settings.push(("agent_path_template", quoted(&template))),
            Err(error) => {
                out.leave_out(item, &format!("{path}.agent_path_template"), &error.to_string());
            }
        }
    }
    if bundles.is_empty() {
        let why = "without ca_bundle_path no node is believed";
        return out.leave_out(&plugin.item, &plugin.path(), why);
    }
    settings.insert(0, ("ca_bundle_paths", format!("[{}]", bundles.join(", "))));
    out.table("[node_attestor.x509pop]", &settings);
}

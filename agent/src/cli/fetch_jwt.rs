//! `api fetch jwt` and `api validate jwt`.

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Map, Value, json};
use steeple_proto::workload::{JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest};

use super::client::{explain, request};
use super::output::Output;
use super::{Connection, Format};

/// What `api fetch jwt` is told.
#[derive(Args, Debug)]
pub(super) struct FetchJwt {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// Whom the token is for; best a single one
    #[arg(long, value_name = "AUDIENCE", required = true, value_delimiter = ',')]
    audience: Vec<String>,
    /// The identity that is wanted; all that this process has if none is named
    #[arg(
        long,
        value_name = "SPIFFE ID",
        alias = "spiffeID",
        default_value = "",
        hide_default_value = true
    )]
    spiffe_id: String,
}

/// What `api validate jwt` is told.
#[derive(Args, Debug)]
pub(super) struct ValidateJwt {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// Whom the token has to be for
    #[arg(long, value_name = "AUDIENCE")]
    audience: String,
    /// The token; - reads it from standard input
    #[arg(long, value_name = "TOKEN")]
    svid: String,
}

impl FetchJwt {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect().await?;
        let mut api = client.workload_api();
        let wanted = JwtsvidRequest { audience: self.audience, spiffe_id: self.spiffe_id };
        let fetched = client.answer(api.fetch_jwtsvid(request(wanted))).await?.into_inner();
        let first = async {
            let stream = api.fetch_jwt_bundles(request(JwtBundlesRequest {})).await?;
            stream.into_inner().message().await
        };
        let bundles = client.answer(first).await?.context("the agent closed the stream")?.bundles;
        if self.format.output.is_json() {
            return output.json(&as_json(&fetched.svids, &bundles));
        }
        for svid in &fetched.svids {
            output.line(&format!("token({}):\n\t{}", svid.spiffe_id, svid.svid))?;
            if !svid.hint.is_empty() {
                output.line(&format!("hint({}):\n\t{}", svid.spiffe_id, svid.hint))?;
            }
        }
        for (name, jwks) in &bundles {
            output.line(&format!("bundle({name}):\n\t{}", String::from_utf8_lossy(jwks)))?;
        }
        Ok(())
    }
}

impl ValidateJwt {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let svid = match self.svid.as_str() {
            "-" => std::io::read_to_string(std::io::stdin()).context("reading the token")?,
            token => token.to_owned(),
        };
        let client = self.connection.connect().await?;
        let mut api = client.workload_api();
        let wanted =
            ValidateJwtsvidRequest { audience: self.audience, svid: svid.trim_end().to_owned() };
        let call = async { Ok(api.validate_jwtsvid(request(wanted)).await) };
        let answer = match client.answer(call).await? {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == tonic::Code::InvalidArgument => {
                return Err(anyhow!("SVID is not valid: {}", status.message()));
            }
            Err(status) => return Err(explain(&status)),
        };
        let claims = Value::Object(struct_to_json(answer.claims.unwrap_or_default()));
        if self.format.output.is_json() {
            return output.json(&json!({ "spiffe_id": answer.spiffe_id, "claims": claims }));
        }
        output.line("SVID is valid.")?;
        output.line(&format!("SPIFFE ID : {}", answer.spiffe_id))?;
        output.line(&format!("Claims    : {claims}"))
    }
}

fn as_json(
    svids: &[steeple_proto::workload::Jwtsvid],
    bundles: &std::collections::BTreeMap<String, Vec<u8>>,
) -> Value {
    use base64::Engine as _;
    let svid = |svid: &steeple_proto::workload::Jwtsvid| json!({ "spiffe_id": svid.spiffe_id, "svid": svid.svid, "hint": svid.hint });
    let bundle = |(name, jwks): (&String, &Vec<u8>)| {
        (name.clone(), Value::from(base64::engine::general_purpose::STANDARD.encode(jwks)))
    };
    json!([
        { "svids": svids.iter().map(svid).collect::<Vec<_>>() },
        { "bundles": bundles.iter().map(bundle).collect::<Map<_, _>>() },
    ])
}

fn struct_to_json(message: prost_types::Struct) -> Map<String, Value> {
    message.fields.into_iter().map(|(name, value)| (name, value_to_json(value))).collect()
}

fn value_to_json(value: prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => number_to_json(number),
        Some(Kind::StringValue(text)) => Value::from(text),
        Some(Kind::BoolValue(flag)) => Value::from(flag),
        Some(Kind::StructValue(message)) => Value::Object(struct_to_json(message)),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(value_to_json).collect(),
    }
}

/// A number as people write it: dates come as floating point numbers and are whole.
fn number_to_json(number: f64) -> Value {
    let whole = format!("{number:.0}").parse::<i64>().ok();
    match whole.filter(|_| number.fract() == 0.0) {
        Some(whole) => Value::from(whole),
        None => Value::from(number),
    }
}

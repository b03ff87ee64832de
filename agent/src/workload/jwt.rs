//! JWT-SVIDs and JWT bundles in the form of the Workload API.

use std::sync::Arc;

use futures_util::future::try_join_all;
use steeple::entry::Entry;
use steeple::id::SpiffeId;
use steeple::jwt::claims::into_struct;
use steeple::jwt::verify::{JwtSvid, Presented};
use steeple_proto::workload::{
    JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse,
};
use tokio::sync::watch;
use tonic::Request;
use tracing::debug;

use super::caller::{self, Caller, Entitlement, Party};
use super::updates::{View, fits};
use super::x509::hint;
use super::{Deps, WorkloadError};
use crate::attest::Attested;
use crate::attest::interest::Interest;
use crate::identity::{Audiences, Holdings, JwtToken};

/// The most audiences of one token; one client refuses tokens with more.
const MAX_AUDIENCES: usize = 32;

/// The longest audience in bytes.
const MAX_AUDIENCE_LENGTH: usize = 1024;

/// The longest audiences in bytes, all together: whatever is in them, the token can be made.
const MAX_AUDIENCES_LENGTH: usize = 4096;

/// How often tokens are minted for one request, where none is good any more when it is there.
const ATTEMPTS: usize = 2;

/// What a request for JWT-SVIDs asks for.
pub(super) struct Wanted {
    audience: Audiences,
    id: Option<SpiffeId>,
}

/// The JWT bundles that a caller is entitled to.
pub(super) struct Bundles {
    caller: Caller,
}

impl Wanted {
    /// Reads a request, before anybody is bothered with it.
    pub(super) fn read(request: JwtsvidRequest) -> Result<Self, WorkloadError> {
        let audience = audiences(request.audience)?;
        let id = match request.spiffe_id.as_str() {
            "" => None,
            text => Some(text.parse().map_err(WorkloadError::SpiffeId)?),
        };
        Ok(Self { audience, id })
    }
}

/// Refuses audiences that cannot be in one token.
pub(super) fn audiences(audience: Vec<String>) -> Result<Audiences, WorkloadError> {
    if audience.is_empty() {
        return Err(WorkloadError::NoAudience);
    }
    if audience.len() > MAX_AUDIENCES {
        return Err(WorkloadError::TooManyAudiences(MAX_AUDIENCES));
    }
    let fine = |value: &String| {
        (1..=MAX_AUDIENCE_LENGTH).contains(&value.len()) && !value.chars().any(char::is_control)
    };
    if !audience.iter().all(fine) {
        return Err(WorkloadError::Audience(MAX_AUDIENCE_LENGTH));
    }
    if audience.iter().map(String::len).sum::<usize>() > MAX_AUDIENCES_LENGTH {
        return Err(WorkloadError::Audiences(MAX_AUDIENCES_LENGTH));
    }
    Ok(Audiences::new(audience))
}

/// Serves one token for each identity of the caller that is wanted. Of a caller that is known from
/// an earlier request, that is looked at again which the entries of this moment ask for.
pub(super) async fn serve(
    deps: &Arc<Deps>,
    request: Request<JwtsvidRequest>,
) -> Result<JwtsvidResponse, WorkloadError> {
    let (_metadata, extensions, message) = request.into_parts();
    let wanted = Wanted::read(message)?;
    let interest = deps.snapshot.borrow().as_ref().map_or(Interest::ALL, |now| now.interest());
    let caller = Caller::attest_for(deps, &extensions, interest).await?;
    match fetch(&caller, &wanted).await {
        // Entries came that ask for more.
        Err(WorkloadError::Unread) => {
            fetch(&Caller::attest(deps, &extensions).await?, &wanted).await
        }
        Ok(response) => Ok(response),
        // Who has become somebody else is not told what the other may have.
        Err(error) => Err(caller.lives().still_hold().err().unwrap_or(error)),
    }
}

async fn fetch(caller: &Caller, wanted: &Wanted) -> Result<JwtsvidResponse, WorkloadError> {
    let is_wanted =
        |entry: &Entry| wanted.id.as_ref().is_none_or(|wanted| entry.content.spiffe_id == *wanted);
    let tokens = tokens(caller, is_wanted, &wanted.audience).await?;
    let svid = |(entry, token): &(Arc<Entry>, JwtToken)| Jwtsvid {
        spiffe_id: entry.content.spiffe_id.to_string(),
        svid: token.token.to_string(),
        hint: hint(entry),
    };
    let response = JwtsvidResponse { svids: tokens.iter().map(svid).collect() };
    fits(&response)?;
    caller.lives().still_hold()?;
    fetched(caller, &tokens);
    Ok(response)
}

/// Tells, in the words of SPIRE's, what leaves.
pub(super) fn fetched(party: &impl Party, tokens: &[(Arc<Entry>, JwtToken)]) {
    let pid = party.caller().attested().peer().pid();
    for (entry, _token) in tokens {
        debug!(pid, spiffe_id = %entry.content.spiffe_id, method = "FetchJWTSVID", "Fetched JWT SVID");
    }
}

/// A token for each entry that is wanted and the party's own, for these audiences. To mint may take
/// a minute, so the tokens are those of entries that are the party's own after that, as they are
/// then; where there is none, it is as if that had been so from the start.
pub(super) async fn tokens(
    party: &impl Party,
    is_wanted: impl Fn(&Entry) -> bool,
    audience: &Audiences,
) -> Result<Vec<(Arc<Entry>, JwtToken)>, WorkloadError> {
    for _ in 0..ATTEMPTS {
        let then = wanted(party, &is_wanted)?;
        if let Some(held) = held(party, &then, audience)? {
            return Ok(then.entries.into_iter().zip(held).collect());
        }
        // Nothing is minted for who has gone, or become somebody else.
        party.lives().still_hold()?;
        let minted = mint(party, &then, audience).await?;
        let now = wanted(party, &is_wanted)?;
        let own = now.snapshot.own_bundle().ok_or(WorkloadError::NotSynchronised)?;
        let current = |(entry, token): (&Arc<Entry>, JwtToken)| {
            let entry = now.entries.iter().find(|current| current.id == entry.id)?;
            token.serves(entry, own).then(|| (entry.clone(), token))
        };
        let tokens: Vec<_> = then.entries.iter().zip(minted).filter_map(current).collect();
        if !tokens.is_empty() {
            return Ok(tokens);
        }
    }
    Err(WorkloadError::Changing)
}

/// What the party is entitled to now of what is wanted, which is something.
fn wanted(
    party: &impl Party,
    is_wanted: impl Fn(&Entry) -> bool,
) -> Result<Entitlement, WorkloadError> {
    let mut entitlement = party.entitlement()?;
    entitlement.entries.retain(|entry| is_wanted(entry));
    if entitlement.entries.is_empty() { Err(WorkloadError::NoIdentity) } else { Ok(entitlement) }
}

/// The token for each entry that the party is entitled to, if all are held.
fn held(
    party: &impl Party,
    entitlement: &Entitlement,
    audience: &Audiences,
) -> Result<Option<Vec<JwtToken>>, WorkloadError> {
    let deps = &party.caller().deps;
    let holder = deps.holders.of(party.instance())?;
    let own = entitlement.snapshot.own_bundle().ok_or(WorkloadError::NotSynchronised)?;
    let now = deps.clock.now();
    let token = |entry: &Arc<Entry>| holder.held_jwt(entry, audience, own, now);
    Ok(entitlement.entries.iter().map(token).collect())
}

/// A token for each entry that the party is entitled to, for these audiences.
async fn mint(
    party: &impl Party,
    entitlement: &Entitlement,
    audience: &Audiences,
) -> Result<Vec<JwtToken>, WorkloadError> {
    let (deps, lives) = (&party.caller().deps, party.lives());
    let holder = deps.holders.of(party.instance())?;
    let own = entitlement.snapshot.own_bundle().ok_or(WorkloadError::NotSynchronised)?;
    let now = deps.clock.now();
    let token = async |entry: &Arc<Entry>| {
        Ok::<_, WorkloadError>(holder.jwt(entry, audience, own, now).await?)
    };
    tokio::select! {
        tokens = try_join_all(entitlement.entries.iter().map(token)) => tokens,
        () = deps.stop.cancelled() => Err(WorkloadError::Stopping),
        ended = lives.end() => Err(ended),
    }
}

/// Validates a token. One of the own trust domain anybody may validate, as its keys are no secret;
/// one of another, who is entitled to the bundle of that.
pub(super) async fn validate(
    deps: &Arc<Deps>,
    request: &Request<ValidateJwtsvidRequest>,
) -> Result<ValidateJwtsvidResponse, WorkloadError> {
    let wanted = request.get_ref();
    check_validation(wanted)?;
    let peer = caller::peer(request.extensions())?;
    let snapshot = deps.snapshot.borrow().clone().ok_or(WorkloadError::NotSynchronised)?;
    let own = snapshot.own_bundle().ok_or(WorkloadError::NotSynchronised)?;
    let token = Presented::read(&wanted.svid, own.trust_domain())?;
    if token.trust_domain() == own.trust_domain() {
        let svid = token.verify(&wanted.audience, Some(own.jwt_keys()), deps.clock.now())?;
        peer.verify()?;
        return Ok(validated(svid));
    }
    let caller = Caller::attest(deps, request.extensions()).await?;
    let svid = validate_foreign(&caller, token, &wanted.audience)?;
    caller.lives().still_hold()?;
    Ok(validated(svid))
}

/// Refuses a request for validation that has nothing to validate.
fn check_validation(request: &ValidateJwtsvidRequest) -> Result<(), WorkloadError> {
    if request.audience.is_empty() {
        return Err(WorkloadError::NoAudience);
    }
    if request.svid.is_empty() {
        return Err(WorkloadError::NoToken);
    }
    Ok(())
}

fn validate_foreign(
    caller: &Caller,
    token: Presented<'_>,
    audience: &str,
) -> Result<JwtSvid, WorkloadError> {
    let entitlement = match caller.entitlement() {
        Ok(entitlement) => Some(entitlement),
        Err(WorkloadError::NoIdentity | WorkloadError::Banned) => None,
        Err(error) => return Err(error),
    };
    let bundle = entitlement.as_ref().and_then(|entitlement| {
        let mut allowed = entitlement.snapshot.federated(&entitlement.entries);
        allowed.find(|bundle| bundle.trust_domain() == token.trust_domain())
    });
    let keys = bundle.map(|bundle| &**bundle.jwt_keys());
    let mut svid = token.verify(audience, keys, caller.deps.clock.now())?;
    // What a foreign trust domain claims beyond the standard is no statement of ours.
    svid.keep_only([]);
    Ok(svid)
}

fn validated(svid: JwtSvid) -> ValidateJwtsvidResponse {
    let spiffe_id = svid.id().to_string();
    ValidateJwtsvidResponse { spiffe_id, claims: Some(into_struct(svid)) }
}

impl Bundles {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller }
    }
}

#[tonic::async_trait]
impl View for Bundles {
    type Message = JwtBundlesResponse;

    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn known(&mut self) -> Vec<&mut Attested> {
        vec![self.caller.attested_mut()]
    }

    async fn compute(&mut self) -> Result<JwtBundlesResponse, WorkloadError> {
        let entitlement = self.caller.entitlement_to_bundles()?;
        let own = entitlement.snapshot.own_bundle().ok_or(WorkloadError::NotSynchronised)?;
        let bundles = entitlement.snapshot.federated(&entitlement.entries).chain([own]);
        let document = |bundle: &Arc<crate::identity::PreparedBundle>| {
            (bundle.trust_domain().id().to_string(), bundle.jwks().to_vec())
        };
        Ok(JwtBundlesResponse { bundles: bundles.map(document).collect() })
    }

    fn holdings(&self) -> Option<watch::Receiver<Arc<Holdings>>> {
        None
    }
}

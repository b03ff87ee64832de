//! The way to a token: the module that talks to it, who is logged in, and what happens when it goes
//! away.
//!
//! A token that was away has forgotten its sessions, and what it called its keys. What was opened
//! since it was found last is an [`Epoch`]: a new one begins once nothing of the old one is in use,
//! since numbers are given out again.

use std::fmt;
use std::mem;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use tracing::{debug, error, info, warn};

use super::{Pin, Pkcs11Error};

/// The most sessions. One does one thing at a time.
const MAX_SESSIONS: usize = 8;

/// How long a session is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a token that was not there is not looked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// Which of a module's tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TokenName {
    /// The one with this label.
    Label(String),
    /// The one in this slot.
    Slot(u64),
}

/// The time between two losses of the token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Epoch(u64);

/// A token that is logged in to.
#[derive(Debug)]
pub(super) struct Token {
    module: Pkcs11,
    name: TokenName,
    pin: Pin,
    pool: Mutex<Pool>,
    freed: Condvar,
}

/// A session.
#[derive(Debug)]
pub(super) struct Open {
    session: Session,
    module: Pkcs11,
    slot: Slot,
    epoch: Epoch,
}

#[derive(Debug)]
struct Pool {
    idle: Vec<Open>,
    out: usize,
    epoch: Epoch,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Sessions can be had.
    Open,
    /// Something went wrong: the token is looked for again as soon as no session is in use.
    Lost,
    /// Somebody looks for it, which takes as long as the module likes.
    Sought,
    /// It could not be used at that time.
    Away(Instant, Absence),
    /// It refused the PIN. Asking again would lock it.
    Refused,
}

/// Why a token cannot be used for now. None of these has cost a try of the PIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Absence {
    /// It is not there.
    Missing,
    /// Its PIN was wrong too often, until an administrator sets it anew.
    Locked,
    /// One wrong PIN would lock it, until another program logs in.
    LastTry,
}

/// A session in use, which goes back when this goes.
struct Lease<'a> {
    token: &'a Token,
    open: Option<Open>,
    lost: bool,
}

impl Token {
    /// Loads the module, finds the token and logs in.
    pub(super) fn open(module: &Path, name: TokenName, pin: Pin) -> Result<Self, Pkcs11Error> {
        let failed = |error: Error| Pkcs11Error::Module {
            module: module.to_owned(),
            why: error.to_string(),
        };
        let loaded = Pkcs11::new(module).map_err(failed)?;
        initialize(&loaded)?;
        let (idle, epoch) = (Vec::new(), Epoch(0));
        let pool = Mutex::new(Pool { idle, out: 0, epoch, state: State::Open });
        let token = Self { module: loaded, name, pin, pool, freed: Condvar::new() };
        let first = token.new_session(epoch)?;
        token.pool().idle.push(first);
        Ok(token)
    }

    /// Does something in a session. When the token turns out to have been away, it is looked for
    /// and all is done again.
    pub(super) fn with<T>(
        &self,
        act: impl Fn(&Open) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        match self.once(&act) {
            Err(Pkcs11Error::Failed(error)) if is_loss(&error) => self.once(&act),
            result => result,
        }
    }

    fn once<T>(&self, act: &impl Fn(&Open) -> Result<T, Pkcs11Error>) -> Result<T, Pkcs11Error> {
        let mut lease = self.lease()?;
        let Some(open) = &lease.open else { return Err(Pkcs11Error::Away) };
        let result = act(open);
        lease.lost = matches!(&result, Err(Pkcs11Error::Failed(error)) if is_loss(error));
        result
    }

    fn lease(&self) -> Result<Lease<'_>, Pkcs11Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut pool = self.pool();
        loop {
            match pool.state {
                State::Refused => return Err(Pkcs11Error::Pin),
                State::Away(since, why) if since.elapsed() < PAUSE => return Err(why.into()),
                State::Lost | State::Away(..) if pool.out == 0 => pool = self.find_again(pool)?,
                State::Open if !pool.idle.is_empty() || pool.out < MAX_SESSIONS => {
                    pool.out += 1;
                    let (open, epoch) = (pool.idle.pop(), pool.epoch);
                    drop(pool);
                    let mut lease = Lease { token: self, open, lost: false };
                    if lease.open.is_none() {
                        let opened = self.new_session(epoch);
                        lease.lost = opened.as_ref().is_err_and(is_gone);
                        lease.open = Some(opened?);
                    }
                    return Ok(lease);
                }
                State::Open | State::Lost | State::Sought | State::Away(..) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Pkcs11Error::Busy);
                    }
                    let waited = self.freed.wait_timeout(pool, left);
                    pool = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn give_back(&self, open: Option<Open>, lost: bool) {
        let mut pool = self.pool();
        if lost && pool.state == State::Open {
            pool.state = State::Lost;
        }
        if pool.state == State::Open {
            pool.idle.extend(open);
        } else {
            // Closed before it counts as such, and that may take long.
            drop(pool);
            drop(open);
            pool = self.pool();
        }
        pool.out = pool.out.saturating_sub(1);
        drop(pool);
        self.freed.notify_all();
    }

    /// Begins a new epoch. Nothing of the old one is in use. Others wait as long as they can.
    fn find_again<'a>(
        &'a self,
        mut pool: MutexGuard<'a, Pool>,
    ) -> Result<MutexGuard<'a, Pool>, Pkcs11Error> {
        let before = mem::replace(&mut pool.state, State::Sought);
        pool.epoch = Epoch(pool.epoch.0.wrapping_add(1));
        let (old, epoch) = (mem::take(&mut pool.idle), pool.epoch);
        drop(pool);
        drop(old);
        let found = match self.new_session(epoch) {
            // Many modules find a token again only if they are started anew.
            Err(error) if !refuses_pin(&error) => {
                self.restart_module().and_then(|()| self.new_session(epoch))
            }
            found => found,
        };
        let failure = found.as_ref().err();
        let after = failure.map_or(State::Open, |error| State::after(error, Instant::now()));
        self.tell(before, after, failure);
        let mut pool = self.pool();
        pool.state = after;
        let found = found.map(|open| pool.idle.push(open));
        self.freed.notify_all();
        found.map(|()| pool)
    }

    /// Tells of what has changed, once.
    fn tell(&self, before: State, after: State, error: Option<&Pkcs11Error>) {
        let error = error.map(|error| error as &dyn std::error::Error);
        match (before, after) {
            (State::Away(..), State::Open) => info!(token = %self.name, "PKCS #11 token is back"),
            (State::Away(_, known), State::Away(_, why)) if known == why => {}
            (_, State::Away(..)) => {
                warn!(token = %self.name, error, "PKCS #11 token out of reach, nothing can be signed");
            }
            (_, State::Refused) => {
                error!(token = %self.name, error,
                    "PKCS #11 token refuses the PIN, which is not tried again");
            }
            (_, State::Open | State::Lost | State::Sought) => {}
        }
    }

    fn restart_module(&self) -> Result<(), Pkcs11Error> {
        if let Err(error) = self.module.clone().finalize() {
            // One that was not started need not be stopped.
            debug!(error = &error as &dyn std::error::Error, "PKCS #11 module not stopped");
        }
        initialize(&self.module)
    }

    fn new_session(&self, epoch: Epoch) -> Result<Open, Pkcs11Error> {
        let (slot, token) = self.slot()?;
        if token.user_pin_locked() {
            return Err(Pkcs11Error::Locked);
        }
        if token.user_pin_final_try() {
            return Err(Pkcs11Error::LastTry);
        }
        let session = self.module.open_rw_session(slot)?;
        // Wiped when it is dropped.
        let pin = AuthPin::new(self.pin.expose().into());
        match session.login(UserType::User, Some(&pin)) {
            // Whoever is logged in is so in all sessions.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            )) => return Err(Pkcs11Error::Pin),
            Err(Error::Pkcs11(RvError::PinLocked, _)) => return Err(Pkcs11Error::Locked),
            Err(error) => return Err(error.into()),
        }
        Ok(Open { session, module: self.module.clone(), slot, epoch })
    }

    fn slot(&self) -> Result<(Slot, TokenInfo), Pkcs11Error> {
        let mut matching = Vec::new();
        let mut others = Vec::new();
        for slot in self.module.get_slots_with_token()? {
            // A slot that says nothing is none that was asked for.
            let Ok(token) = self.module.get_token_info(slot) else { continue };
            let wanted = match &self.name {
                TokenName::Label(label) => token.label() == label,
                TokenName::Slot(number) => slot.id() == *number,
            };
            if wanted && token.token_initialized() {
                matching.push((slot, token));
            } else if token.token_initialized() {
                others.push(format!("`{}` in slot {slot}", token.label()));
            }
        }
        let Some(found) = matching.pop() else {
            let none = || "no token".to_owned();
            let found = if others.is_empty() { none() } else { others.join(", ") };
            return Err(Pkcs11Error::NoToken { wanted: self.name.clone(), found });
        };
        if matching.is_empty() { Ok(found) } else { Err(Pkcs11Error::Ambiguous(self.name.clone())) }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What an attempt to log in that failed of this leaves.
    fn after(error: &Pkcs11Error, now: Instant) -> Self {
        if matches!(error, Pkcs11Error::Pin) {
            return Self::Refused;
        }
        let why = if matches!(error, Pkcs11Error::Locked) {
            Absence::Locked
        } else if matches!(error, Pkcs11Error::LastTry) {
            Absence::LastTry
        } else {
            Absence::Missing
        };
        Self::Away(now, why)
    }
}

impl From<Absence> for Pkcs11Error {
    fn from(why: Absence) -> Self {
        match why {
            Absence::Missing => Self::Away,
            Absence::Locked => Self::Locked,
            Absence::LastTry => Self::LastTry,
        }
    }
}

impl Open {
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the token is there: some modules say that one which is not has no objects.
    pub(super) fn confirm_presence(&self) -> Result<(), Pkcs11Error> {
        self.module.get_token_info(self.slot)?;
        Ok(())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.token.give_back(self.open.take(), self.lost);
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) => write!(f, "`{label}`"),
            Self::Slot(slot) => write!(f, "in slot {slot}"),
        }
    }
}

/// Starts the module, unless somebody has.
fn initialize(module: &Pkcs11) -> Result<(), Pkcs11Error> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether asking again with the same PIN would make it worse.
fn refuses_pin(error: &Pkcs11Error) -> bool {
    matches!(error, Pkcs11Error::Pin | Pkcs11Error::Locked | Pkcs11Error::LastTry)
}

/// Whether the token has to be looked for before a session can be had.
fn is_gone(error: &Pkcs11Error) -> bool {
    !matches!(error, Pkcs11Error::Failed(cause) if !is_loss(cause))
}

/// Whether an object is no longer where it was.
pub(super) fn knows_no_such_object(error: &Error) -> bool {
    let Error::Pkcs11(error, _) = error else { return false };
    matches!(error, RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid)
}

/// Whether it is what a token answers that is or was away.
pub(super) fn is_loss(error: &Error) -> bool {
    let Error::Pkcs11(error, _) = error else { return false };
    matches!(
        error,
        RvError::CryptokiNotInitialized
            | RvError::DeviceError
            | RvError::DeviceRemoved
            | RvError::FunctionFailed
            | RvError::GeneralError
            | RvError::KeyHandleInvalid
            | RvError::ObjectHandleInvalid
            | RvError::SessionClosed
            | RvError::SessionHandleInvalid
            | RvError::SlotIdInvalid
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::UserNotLoggedIn
    )
}

#[cfg(test)]
mod tests;

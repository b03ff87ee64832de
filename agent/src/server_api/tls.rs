//! Connections over TCP and TLS, with the server's SPIFFE ID checked.

use std::error::Error;

use steeple::tls::{Connector, ConnectorError};

use super::dial::{Dial, DialError, Stream};

/// Dials by TLS. The name of the server is resolved anew for each connection.
#[derive(Debug)]
pub struct TlsDial(pub Connector);

#[tonic::async_trait]
impl Dial for TlsDial {
    async fn dial(&self) -> Result<Box<dyn Stream>, DialError> {
        match self.0.connect().await {
            Ok(connected) => Ok(Box::new(connected.stream)),
            Err(error) => Err(dial_error(&error)),
        }
    }
}

fn dial_error(error: &ConnectorError) -> DialError {
    let text = with_causes(error);
    match error {
        ConnectorError::Peer(_) => DialError::Untrusted(text),
        ConnectorError::Handshake(_) | ConnectorError::Config(_) => DialError::Handshake(text),
        ConnectorError::Unreachable { .. } | ConnectorError::Address => {
            DialError::Unreachable(text)
        }
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

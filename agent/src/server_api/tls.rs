//! Connections over TCP and TLS, with the server's SPIFFE ID checked.

use steeple::telemetry::with_causes;
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
        // That it is not trusted, the caller says.
        ConnectorError::Peer(cause) => DialError::Untrusted(with_causes(cause)),
        ConnectorError::Handshake(_) | ConnectorError::Config(_) => DialError::Handshake(text),
        ConnectorError::Unreachable { .. } | ConnectorError::Address => {
            DialError::Unreachable(text)
        }
    }
}

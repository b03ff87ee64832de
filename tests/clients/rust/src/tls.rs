//! Mutual TLS by `spiffe-rustls`, with whatever the source holds at the moment.

use std::sync::Arc;

use spiffe::X509Source;
use spiffe_rustls::{authorizer, mtls_client, mtls_server};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::CommonState;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Result, say};

pub async fn serve(peer: &str) -> Result<()> {
    let source = X509Source::new().await?;
    let config = mtls_server(source.clone()).authorize(authorizer::exact([peer])?).build()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say::event("listening", &[("port", listener.local_addr()?.port().into())]);
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Err(error) = answer(&acceptor, accepted?.0).await {
                    say::event("refused", &[("error", error.to_string().into())]);
                }
            }
            line = lines.next_line() => if line?.is_none() { break },
        }
    }
    source.shutdown().await;
    Ok(())
}

async fn answer(acceptor: &TlsAcceptor, stream: TcpStream) -> Result<()> {
    let mut stream = BufReader::new(acceptor.accept(stream).await?);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    say::event("peer", &[("leaf", leaf(stream.get_ref().get_ref().1))]);
    stream.write_all(line.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

pub async fn dial(port: u16, peer: &str) -> Result<()> {
    let source = X509Source::new().await?;
    let config = mtls_client(source.clone()).authorize(authorizer::exact([peer])?).build()?;
    let connector = TlsConnector::from(Arc::new(config));
    say::event("ready", &[]);
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if let Err(error) = ask(&connector, port, &line).await {
            say::event("refused", &[("error", error.to_string().into())]);
        }
    }
    source.shutdown().await;
    Ok(())
}

async fn ask(connector: &TlsConnector, port: u16, line: &str) -> Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // Who is expected there is a matter of the authorizer; this is not looked at.
    let name = ServerName::try_from("localhost")?;
    let mut stream = BufReader::new(connector.connect(name, stream).await?);
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    stream.flush().await?;
    let mut reply = String::new();
    if stream.read_line(&mut reply).await? == 0 {
        return Err("no reply".into());
    }
    let leaf = leaf(stream.get_ref().get_ref().1);
    say::event("reply", &[("text", reply.trim_end().into()), ("leaf", leaf)]);
    Ok(())
}

fn leaf(connection: &CommonState) -> serde_json::Value {
    let chain = connection.peer_certificates().unwrap_or_default();
    chain.first().map(|leaf| say::encode(leaf)).unwrap_or_default()
}

//! What becomes of an engine's answers, of a scripted engine on a real socket.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;
use crate::attest::cgroup::containers;

const A: &str = "6469646e742065787065637420616e796f6e6520746f20726561642074686973";

fn id() -> ContainerId {
    containers(A.as_bytes()).remove(0).container
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn inspection(id: &str, running: bool, pid: u32) -> String {
    let config = r#"{"Image": "acme/web:1", "Labels": {"team": "a", "x.y": "b:c"},
        "Env": ["PATH=/bin", "SECRET=s", "TIER=gold=1", "EMPTY"], "Other": []}"#;
    let state = format!(r#"{{"Running": {running}, "Pid": {pid}, "Status": "x"}}"#);
    let body = format!(
        r#"{{"Id": "{id}", "Image": "sha256:12ab", "Config": {config}, "State": {state}}}"#
    );
    answer("200 OK", &body)
}

/// Serves these answers, one a connection and the last for ever, while `ask` runs. Returns what
/// came of it and how often the engine was asked.
async fn with_engine<T>(answers: &[String], ask: impl AsyncFnOnce(&Path) -> T) -> (T, usize) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = AtomicUsize::new(0);
    let serve = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let turn = asked.fetch_add(1, Ordering::SeqCst);
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(request.starts_with(&format!("GET /containers/{A}/json HTTP/1.1\r\n")));
            let answer = answers.get(turn).or(answers.last()).unwrap();
            // Who has read enough hangs up.
            stream.write_all(answer.as_bytes()).await.unwrap_or_default();
        }
    };
    tokio::select! {
        result = ask(&socket) => (result, asked.load(Ordering::SeqCst)),
        () = serve => unreachable!(),
    }
}

async fn inspect(answers: &[String]) -> (Result<Option<Inspection>, String>, usize) {
    with_engine(answers, async |socket: &Path| {
        let answer = Engine::new(socket.to_owned()).inspect(&id()).await;
        answer.map_err(|error| error.to_string())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_engine_is_asked_again_only_after_a_failure_that_may_pass() {
    let good = inspection(A, true, 1);
    let broken = answer("500 Internal Server Error", "{}");
    let (answer_, asked) = inspect(std::slice::from_ref(&good)).await;
    assert_eq!(answer_.unwrap().unwrap().state, engine::ContainerState { running: true, pid: 1 });
    assert_eq!(asked, 1);
    let (answer_, asked) = inspect(&[answer("404 Not Found", "{}")]).await;
    assert_eq!((answer_, asked), (Ok(None), 1));
    let (answer_, asked) = inspect(&[broken.clone(), String::new(), "junk".into(), good]).await;
    assert!(answer_.unwrap().is_some());
    assert_eq!(asked, 4);
    let (answer_, asked) = inspect(std::slice::from_ref(&broken)).await;
    let refused = "the engine answered 500 Internal Server Error".to_owned();
    assert_eq!((answer_, asked), (Err(refused), 4));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_is_an_error_at_once() {
    let other = A.replace('6', "7");
    for (answer_, error) in [
        (answer("200 OK", "{}"), "reading the engine's answer"),
        (answer("200 OK", "nonsense"), "reading the engine's answer"),
        (answer("301 Moved", ""), "the engine answered 301 Moved Permanently"),
        (answer("403 Forbidden", ""), "the engine answered 403 Forbidden"),
        (inspection(&other, true, 1), "the engine answered about another container"),
        (
            answer("200 OK", &" ".repeat((4 << 20) + 1)),
            "the engine's answer is longer than 4194304 bytes",
        ),
    ] {
        assert_eq!(inspect(&[answer_]).await, (Err(error.to_owned()), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_not_there_is_an_error_after_four_attempts() {
    let started = Instant::now();
    let error = Engine::new("/nonexistent/engine.sock".into()).inspect(&id()).await.unwrap_err();
    assert!(matches!(error, EngineError::Connect(_)));
    assert_eq!(started.elapsed(), Duration::from_millis(100 + 200 + 400));
}

#[tokio::test]
async fn selectors_are_labels_image_and_listed_variables() {
    let (answer, _) = inspect(&[inspection(A, true, 1)]).await;
    let inspection = answer.unwrap().unwrap();
    let found = |env: &[&str]| {
        let env: Vec<_> = env.iter().map(|name| (*name).to_owned()).collect();
        selectors(&inspection, &env).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let always = [
        "docker:label:team:a",
        "docker:label:x.y:b:c",
        "docker:image_id:acme/web:1",
        "docker:image_config_digest:sha256:12ab",
    ];
    assert_eq!(found(&[]), always);
    let mut with_tier = always.to_vec();
    with_tier.insert(2, "docker:env:TIER=gold=1");
    assert_eq!(found(&["TIER", "TIE", "EMPTY", "tier", "gold"]), with_tier);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_remembered_while_the_container_runs_and_an_unknown_id_for_a_while() {
    let mut init =
        std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let pid = init.id();
    let docker = |socket: &Path| {
        Docker::new(&DockerConfig { socket_path: socket.to_owned(), ..DockerConfig::standard() })
    };
    let answers = [inspection(A, true, pid), inspection(A, false, 0)];
    let ((), asked) = with_engine(&answers, async |socket: &Path| {
        let docker = docker(socket);
        for _ in 0..3 {
            assert!(docker.container(&id()).await.unwrap().is_some());
        }
        drop(init.stdin.take());
        init.wait().unwrap();
        // It does not run now, which may change any moment.
        assert!(docker.container(&id()).await.unwrap().is_none());
        assert!(docker.container(&id()).await.unwrap().is_none());
    })
    .await;
    assert_eq!(asked, 3);
    let unknown = answer("404 Not Found", "{}");
    let ((), asked) = with_engine(&[unknown], async |socket: &Path| {
        let docker = docker(socket);
        assert!(docker.container(&id()).await.unwrap().is_none());
        assert!(docker.container(&id()).await.unwrap().is_none());
        tokio::time::advance(UNKNOWN_FOR).await;
        assert!(docker.container(&id()).await.unwrap().is_none());
    })
    .await;
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn made_up_ids_do_not_displace_containers_that_run() {
    let (answer, _) = inspect(&[inspection(A, true, std::process::id())]).await;
    let container = Container::of(&id(), &answer.unwrap().unwrap(), &[]).unwrap();
    let docker = Docker::new(&DockerConfig::standard());
    docker.remember(&id(), Answer::Running(Arc::new(container)));
    for index in 0..2 * MAX_KNOWN {
        let path = format!("{index:064x}");
        let id = containers(path.as_bytes()).remove(0).container;
        docker.remember(&id, Answer::Unknown { until: Instant::now() + UNKNOWN_FOR });
    }
    assert_eq!(docker.answers().len(), MAX_KNOWN);
    assert!(matches!(docker.remembered(&id()), Some(Some(_))));
}

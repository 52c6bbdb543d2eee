//! The monitor's stores: what every store must do, on a real server; and what is
//! left of them after a kill at any moment.

use crate::support::redis::RedisServer;
use modelet_host::monitor::store::{Bucket, Embedded, Label, Labelled, Parked, Part, Redis, Store, Sums, open};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

#[path = "../../host/src/monitor/store/suite.rs"]
mod suite;

const LONG: Duration = Duration::from_secs(3600);

/// Names the store that [`a_client_that_is_killed`] writes to, and what all of
/// its names begin with.
const CHILD_STORE: &str = "MODELET_TEST_STORE";
const CHILD_NAME: &str = "MODELET_TEST_NAME";

#[test]
fn redis_does_what_a_store_must() {
    let server = RedisServer::start();
    suite::run(&Redis::connect(&server.url()).expect("the server answers"));
}

#[test]
fn instances_on_a_server_are_bounded_by_number() {
    let server = RedisServer::start();
    suite::instances_are_bounded(&Redis::connect(&server.url()).expect("the server answers"));
}

#[test]
fn prefixes_part_the_stores_of_one_server() {
    let server = RedisServer::start();
    let store = |prefix: &str| Redis::connect(&format!("{}?prefix={prefix}", server.url())).expect("it answers");
    let (a, b) = (store("a:"), store("b:"));
    assert!(a.create("d", b"of a").expect("it is created"));
    assert!(b.create("d", b"of b").expect("it is created"));
    assert!(a.lease("l", "a", LONG).expect("it is asked for"));
    assert!(b.lease("l", "b", LONG).expect("it is asked for"));
    a.put_parts(&[suite::part("m", 0, "w", b"p")], LONG)
        .expect("a part is put");
    assert_eq!(
        a.documents("").expect("it is read"),
        [("d".to_owned(), b"of a".to_vec())]
    );
    assert_eq!(b.parts("m", 60, 0, 60).expect("it is read"), []);
}

#[test]
fn a_store_is_opened_by_its_name() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder is made");
    let file = folder.path().join("state").display().to_string();
    for spec in ["memory", &file, &server.url()] {
        let store = open(spec).unwrap_or_else(|e| panic!("{spec}: {e}"));
        assert!(store.create("d", b"x").expect("it is created"), "{spec}");
    }
    assert!(Path::new(&file).is_file());

    let refused = |spec: &str| match open(spec) {
        Ok(_) => panic!("{spec} was opened"),
        Err(error) => error.to_string(),
    };
    let port = server.url();
    drop(server);
    let why = refused(&port);
    assert!(
        why.starts_with(&format!("store {port}: ")) && why.contains("refused"),
        "{why}"
    );
    let with_password = port.replace("redis://", "redis://user:s3cr3t/@#@");
    assert!(
        !refused(&with_password).contains("s3cr3t"),
        "{}",
        refused(&with_password)
    );
    let why = refused("rediss://host:1/0");
    assert!(why.starts_with("store rediss://host:1/0: TLS is not built in"), "{why}");
    let why = refused("postgres://user:s3cr3t@host/db");
    assert_eq!(
        why,
        "store postgres://...: expected a file, redis://host:port/db or memory"
    );
    let why = refused("redis://127.0.0.1:6379/first");
    assert!(
        why.starts_with("store redis://127.0.0.1:6379/first: Invalid database number"),
        "{why}"
    );
    assert!(refused("").contains("the store is empty"));
}

/// Calls over a connection that the server has closed are made once more, and
/// nothing that was acknowledged is lost with the server.
#[test]
fn a_server_that_starts_again_has_everything() {
    let mut server = RedisServer::start();
    let store = Redis::connect(&server.url()).expect("the server answers");
    let label = suite::label("m", 1, b"x", &[(1, 3)]);
    let write = |store: &Redis| {
        store
            .put_parts(&[suite::part("m", 0, "w", b"p")], LONG)
            .expect("a part is put");
        store
            .put_predictions("m", &[(suite::key(1), &[5])], LONG)
            .expect("a prediction is put");
        store
            .label(std::slice::from_ref(&label), LONG)
            .expect("a label is put")
            .remove(0)
    };
    assert_eq!(write(&store), Labelled::Counted);
    assert!(store.create("d", b"x").expect("it is created"));
    assert!(store.advance("i", 7, LONG, suite::MANY).expect("it is noted"));
    assert!(store.lease("l", "a", LONG).expect("it is asked for"));
    for _ in 0..2 {
        server.restart();
        assert!(!store.create("d", b"y").expect("it is there"));
        assert!(!store.advance("i", 7, LONG, suite::MANY).expect("it is noted"));
        assert!(!store.lease("l", "b", LONG).expect("it is held"));
        assert_eq!(suite::sums(&store, "m"), Sums::from([(1, 3)]));
        assert_eq!(
            store.predictions("m", &[suite::key(1)]).expect("it is read"),
            [Some(vec![5])]
        );
        assert_eq!(store.parts("m", 60, 0, 60).expect("it is read").len(), 1);
        assert_eq!(write(&store), Labelled::Found(Some(b"x".to_vec())));
    }
    server.kill();
    let begun = Instant::now();
    let error = store.create("e", b"x").expect_err("no server answers");
    assert!(
        error.to_string().starts_with(&format!("store {}: ", server.url())),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    server.restart();
    assert!(store.create("e", b"x").expect("it is created"));
}

/// Without its scripts a server is as one that has been replaced.
#[test]
fn a_server_that_has_lost_its_scripts_gets_them_again() {
    let server = RedisServer::start();
    let store = Redis::connect(&server.url()).expect("the server answers");
    assert!(store.create("d", b"x").expect("it is created"));
    raw(&server.url(), "SCRIPT FLUSH");
    assert!(!store.create("d", b"x").expect("it is there"));
    let label = suite::label("m", 1, b"x", &[(1, 3)]);
    assert_eq!(
        store.label(&[label], LONG).expect("a label is put"),
        [Labelled::Counted]
    );
}

/// What has expired leaves nothing on the server.
#[test]
fn expired_buckets_leave_no_key() {
    let server = RedisServer::start();
    let store = Redis::connect(&server.url()).expect("the server answers");
    let keep = Duration::from_millis(400);
    let parts: Vec<Part> = (0..50).map(|i| suite::part("m", i * 60, "w", b"p")).collect();
    store.put_parts(&parts, keep).expect("parts are put");
    store
        .put_predictions("m", &[(suite::key(1), &[1])], keep)
        .expect("a prediction is put");
    store
        .label(&[suite::label("m", 1, b"x", &[(1, 1)])], keep)
        .expect("a label is put");
    store.advance("i", 1, keep, suite::MANY).expect("it is noted");
    store.lease("l", "a", keep).expect("it is asked for");
    assert_ne!(raw(&server.url(), "DBSIZE"), ":0");
    thread::sleep(Duration::from_millis(800));
    store.expire().expect("it expires");
    let deadline = Instant::now() + Duration::from_secs(20);
    while raw(&server.url(), "DBSIZE") != ":0" {
        assert!(
            Instant::now() < deadline,
            "{} keys are left",
            raw(&server.url(), "DBSIZE")
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// The first line of the answer to a command.
fn raw(url: &str, command: &str) -> String {
    let address = url.trim_start_matches("redis://").trim_end_matches("/0");
    let mut stream = std::net::TcpStream::connect(address).expect("the server answers");
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .expect("it takes the command");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("it answers");
    line.trim_end().to_owned()
}

#[test]
fn a_killed_process_loses_nothing_acknowledged_of_its_file() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let path = folder.path().join("state");
    let spec = path.display().to_string();
    let mut done: Vec<Acknowledged> = Vec::new();
    for round in 0..8 {
        let name = format!("round {round}");
        let child = client(&spec, &name);
        done.push(killed_after(child, &name, Duration::from_millis(150 + 97 * round)));
        let store = Embedded::open(&path).expect("the file is sound");
        for acknowledged in &done {
            acknowledged.check(&store);
        }
    }
    assert!(
        done.iter().map(|done| done.labels).sum::<u64>() > 20,
        "the clients did little: {done:?}"
    );
}

#[test]
fn a_killed_client_takes_nothing_acknowledged_along() {
    let server = RedisServer::start();
    let store = Redis::connect(&server.url()).expect("the server answers");
    let survivor = client(&server.url(), "survivor");
    let mut done = Vec::new();
    for round in 0..5 {
        let name = format!("killed {round}");
        let child = client(&server.url(), &name);
        done.push(killed_after(child, &name, Duration::from_millis(150 + 71 * round)));
    }
    done.push(killed_after(survivor, "survivor", Duration::ZERO));
    for acknowledged in &done {
        acknowledged.check(&store);
    }
    assert!(done.iter().all(|done| done.labels > 0), "{done:?}");
}

/// The limit on a file's size stands for a full disk.
#[cfg(unix)]
#[test]
fn a_store_goes_on_after_a_write_that_failed() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let path = folder.path().join("state");
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("the test's own path"))
        .args([
            "stores::a_client_whose_disk_is_full",
            "--exact",
            "--nocapture",
            "--ignored",
        ])
        .env(CHILD_STORE, &path)
        .output()
        .expect("the test runs itself");
    let said = String::from_utf8_lossy(&limited.stdout);
    assert!(
        limited.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&limited.stderr)
    );
    let put = said.lines().filter(|line| *line == "done part").count();
    assert!(put > 0 && said.contains("done label"), "{said}");
    let store = Embedded::open(&path).expect("the file is sound");
    assert_eq!(store.parts("m", 60, 0, u64::MAX).expect("parts are read").len(), put);
    assert_eq!(suite::sums(&store, "m"), Sums::from([(1, 1)]));
}

/// Not a test: what the one above runs.
#[test]
#[ignore = "it is run by another test"]
fn a_client_whose_disk_is_full() {
    let Ok(path) = std::env::var(CHILD_STORE) else { return };
    let store = Embedded::open(Path::new(&path)).expect("the store is opened");
    let bytes = vec![1; 100_000];
    let error = (0..).find_map(|i| {
        let put = store.put_parts(&[suite::part("m", i * 60, "w", &bytes)], LONG);
        if put.is_ok() {
            println!("\ndone part");
        }
        put.err()
    });
    let error = error.expect("the limit is reached").to_string();
    assert!(error.starts_with(&format!("store {path}: ")), "{error}");
    let outcome = store.label(&[suite::label("m", 1, b"x", &[(1, 1)])], LONG);
    assert_eq!(outcome.expect("a label needs little room"), [Labelled::Counted]);
    println!("\ndone label");
}

/// What a client had been told before it was killed.
#[derive(Debug)]
struct Acknowledged {
    name: String,
    labels: u64,
    documents: u64,
    pairs: u64,
    parts: u64,
}

impl Acknowledged {
    fn check(&self, store: &dyn Store) {
        let name = &self.name;
        let brought = store.sums(name, 60, 0, 60).expect("the sums are read");
        let sums = brought.first().map(|(_, sums)| sums.clone()).unwrap_or_default();
        let counted = sums.get(&1).copied().unwrap_or_default() as u64;
        assert!(
            counted >= self.labels,
            "{name}: {counted} labels are counted of {}",
            self.labels
        );
        assert!(
            counted <= self.labels + THREADS,
            "{name}: {counted} labels are counted of {}",
            self.labels
        );
        // All of a label or nothing: each of its sums, and itself.
        assert_eq!(sums.get(&2).copied().unwrap_or_default() as u64, 2 * counted, "{name}");
        // Asked with a previous label that none has, nothing is changed.
        let ask = |number: u64| Label {
            previous: Some(b"no such label".to_vec()),
            ..suite::label(name, number, b"y", &[])
        };
        let numbers = (0..THREADS).flat_map(|thread| (0..=counted).map(move |i| (thread << 32) | i));
        let asked: Vec<Label> = numbers.map(ask).collect();
        let found = store.label(&asked, LONG).expect("labels are asked for");
        let there = found
            .iter()
            .filter(|found| **found == Labelled::Found(Some(b"x".to_vec())));
        assert_eq!(there.count() as u64, counted, "{name}");

        let documents = store.documents(&format!("{name}/")).expect("documents are read");
        let named = |kind: &str| {
            let prefix = format!("{name}/{kind}/");
            documents.iter().filter(|(name, _)| name.starts_with(&prefix)).count() as u64
        };
        assert!(
            named("created") >= self.documents,
            "{self:?}: {} are created",
            named("created")
        );
        let (left, right) = (named("left"), named("right"));
        assert!(
            left == right && left >= self.pairs,
            "{self:?}: {left} and {right} are changed"
        );

        // Parts are put in order, after predictions.
        let parts = store.parts(name, 60, 0, u64::MAX).expect("parts are read");
        assert!(parts.len() as u64 >= self.parts, "{self:?}: {} parts", parts.len());
        let keys: Vec<_> = (0..parts.len() as u64).map(suite::key).collect();
        let predictions = store.predictions(name, &keys).expect("predictions are read");
        assert!(
            predictions.iter().all(Option::is_some),
            "{self:?}: predictions before parts are lost"
        );
    }
}

const THREADS: u64 = 4;

/// Another process that writes to the store until it is killed.
fn client(spec: &str, name: &str) -> Child {
    Command::new(std::env::current_exe().expect("the test's own path"))
        .args(["stores::a_client_that_is_killed", "--exact", "--nocapture", "--ignored"])
        .env(CHILD_STORE, spec)
        .env(CHILD_NAME, name)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test runs itself")
}

/// Kills a client so long after its first word; what it said until then.
fn killed_after(mut child: Child, name: &str, time: Duration) -> Acknowledged {
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped"))
        .lines()
        .map_while(Result::ok);
    let first = lines.find(|line| line.starts_with("done "));
    assert!(first.is_some(), "{name} ended by itself");
    let (killer, kind) = (
        thread::spawn(move || {
            thread::sleep(time);
            child.kill().expect("it can be killed");
            child.wait().expect("it has ended");
        }),
        |line: &String| line.strip_prefix("done ").map(str::to_owned),
    );
    let said: Vec<String> = first
        .iter()
        .cloned()
        .chain(lines)
        .filter_map(|line| kind(&line))
        .collect();
    killer.join().expect("no panic");
    let count = |kind: &str| said.iter().filter(|said| *said == kind).count() as u64;
    Acknowledged {
        name: name.to_owned(),
        labels: count("label"),
        documents: count("document"),
        pairs: count("pair"),
        parts: count("part"),
    }
}

/// Not a test: what [`client`] runs.
#[test]
#[ignore = "it is run, and killed, by other tests"]
fn a_client_that_is_killed() {
    let (Ok(spec), Ok(name)) = (std::env::var(CHILD_STORE), std::env::var(CHILD_NAME)) else {
        return;
    };
    let store: Arc<dyn Store> = open(&spec).expect("the store is opened");
    // One write for each line, so that a kill leaves no half of one that counts.
    let say = |what: &str| {
        std::io::stdout()
            .write_all(format!("done {what}\n").as_bytes())
            .expect("it is read")
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, name) = (&store, &name);
            scope.spawn(move || {
                for i in 0.. {
                    let label = suite::label(name, thread << 32 | i, b"x", &[(1, 1), (2, 2)]);
                    let outcome = store.label(&[label], LONG).expect("a label is put");
                    assert_eq!(outcome, [Labelled::Counted]);
                    say("label");
                }
            });
        }
        scope.spawn(|| {
            for i in 0.. {
                assert!(
                    store
                        .create(&format!("{name}/created/{i}"), b"x")
                        .expect("it is created")
                );
                say("document");
                let pair = ["left", "right"].map(|side| (format!("{name}/{side}/{i}"), Some(vec![1])));
                store.change(&pair).expect("documents are changed");
                say("pair");
            }
        });
        scope.spawn(|| {
            for i in 0..u64::MAX / 60 {
                store
                    .put_predictions(&name, &[(suite::key(i), &[1; 24])], LONG)
                    .expect("a prediction is put");
                store
                    .put_parts(&[suite::part(&name, i * 60, "w", &[1; 500])], LONG)
                    .expect("a part is put");
                say("part");
            }
        });
    });
}

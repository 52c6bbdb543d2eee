//! The store of a fleet: a Redis or Valkey server that replicas share.
//!
//! It needs Redis 6 or Valkey, with no modules, as one primary (with replicas
//! behind it or not; not a Redis Cluster). What it must not lose is as safe as
//! the server makes it: `appendonly yes`, with `appendfsync always` to lose
//! nothing to a power cut and `everysec` to lose up to a second, and
//! `maxmemory-policy noeviction`, since other policies drop labels when memory
//! is short. A server that is set up otherwise is named in the log.
//!
//! Every change that reads before it writes is a script, which the server runs
//! alone. A call whose connection breaks is tried once more over a new one.
//! That it may have been done already is no harm: changes carry a token by which
//! the server knows them again, or are the same when done twice.
//!
//! What expires does so by the server's own clock and work. All names begin with
//! a prefix, `modelet:` unless the URL has another (`?prefix=...`), so that
//! fleets can share a server:
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `p:MODEL:SECONDS`, `s:MODEL:SECONDS` | sorted set | the starts of buckets of parts, of sums |
//! | `p:MODEL:SECONDS:START` | hash | parts by writer |
//! | `s:MODEL:SECONDS:START` | hash | sums by number |
//! | `indexes` | set | the names of the sorted sets |
//! | `k:MODEL:KEY`, `l:MODEL:KEY:ROW` | string | a prediction, a label |
//! | `u:MODEL` | hash | parked labels by `KEY:ROW` |
//! | `i:INSTANCE` | string | its last sequence number, and the token of the call |
//! | `instances`, `turn` | sorted set, number | which instances are known, by the turn of their last delta; the turn |
//! | `lease:NAME` | string | who holds it |
//! | `documents`, `names` | hash, sorted set | documents, their names in order |
//! | `once:TOKEN` | string | the outcome of a change, for a minute |
//!
//! MODEL is the begin of the model's SHA-256 taken again, which keeps the many
//! keys of predictions short.

use super::{Bucket, Change, Label, Labelled, Parked, Part, Result, Store, StoreError, Sums};
use redis::{
    Client, Cmd, Connection, ConnectionLike, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, RedisResult,
    Script, Value, cmd,
};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the server may take to send or to take anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connections are kept for later calls.
const IDLE_CONNECTIONS: usize = 8;

/// How many commands go in one round trip.
const PIPELINE: usize = 1000;

/// The longest time to keep anything, since the server's times end somewhere.
const KEEP_MS: u128 = 100 * 366 * 86_400_000;

/// A store on a server.
pub struct Redis {
    client: Client,
    /// Of every key.
    prefix: String,
    /// The URL without its password.
    name: String,
    scripts: Scripts,
    idle: Mutex<Vec<Connection>>,
}

struct Scripts {
    put_part: Script,
    label: Script,
    park: Script,
    unpark: Script,
    advance: Script,
    lease: Script,
    release: Script,
    documents: Script,
    change: Script,
    create: Script,
    trim: Script,
}

/// A bucket's parts by writer.
type Writers = Vec<(String, Vec<u8>)>;

/// Sets when a key expires, if that is later than it was to.
const KEEP: &str = "
local function keep(key, ms)
    if redis.call('PTTL', key) < tonumber(ms) then
        redis.call('PEXPIRE', key, ms)
    end
end
";

const PUT_PART: &str = "
local bucket, index, indexes = KEYS[1], KEYS[2], KEYS[3]
redis.call('HSET', bucket, ARGV[3], ARGV[4])
keep(bucket, ARGV[1])
redis.call('ZADD', index, ARGV[2], ARGV[2])
redis.call('SADD', indexes, index)
return 1
";

/// Its sums come as bucket, index, start, how many, then number and sum of each.
/// `HINCRBY` fails beyond 64 bits, and then what was added is taken back.
const LABEL: &str = "
local label, indexes, parked = KEYS[1], KEYS[2], KEYS[3]
if ARGV[6] == '1' and redis.call('HGET', parked, ARGV[5]) ~= ARGV[7] then
    return {3}
end
local found = redis.call('GET', label)
local expected = ARGV[2] == '1' and ARGV[3]
if found ~= expected then
    return {0, found}
end
local done = {}
local i = 8
while i <= #ARGV do
    local bucket, index, start, count = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
    i = i + 4
    for _ = 1, count do
        local number, add = ARGV[i], ARGV[i + 1]
        i = i + 2
        local sum = redis.pcall('HINCRBY', bucket, number, add)
        if type(sum) == 'table' and sum.err then
            for k = #done, 1, -1 do
                local back = string.sub(done[k][3], 1, 1) == '-' and string.sub(done[k][3], 2) or '-' .. done[k][3]
                redis.call('HINCRBY', done[k][1], done[k][2], back)
            end
            return {2, number}
        end
        done[#done + 1] = {bucket, number, add}
    end
    if count > 0 then
        keep(bucket, ARGV[1])
        redis.call('ZADD', index, start, start)
        redis.call('SADD', indexes, index)
    end
end
redis.call('SET', label, ARGV[4], 'PX', ARGV[1])
redis.call('HDEL', parked, ARGV[5])
return {1}
";

const PARK: &str = "
local parked, most = KEYS[1], tonumber(ARGV[2])
local count = redis.call('HLEN', parked)
local taken = {}
for i = 3, #ARGV, 2 do
    local is_new = redis.call('HEXISTS', parked, ARGV[i]) == 0
    if is_new and count >= most then
        taken[#taken + 1] = 0
    else
        count = count + (is_new and 1 or 0)
        redis.call('HSET', parked, ARGV[i], ARGV[i + 1])
        taken[#taken + 1] = 1
    end
end
keep(parked, ARGV[1])
return taken
";

const UNPARK: &str = "
local removed = {}
for i = 1, #ARGV, 2 do
    if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
        removed[#removed + 1] = redis.call('HDEL', KEYS[1], ARGV[i])
    else
        removed[#removed + 1] = 0
    end
end
return removed
";

/// Sequence numbers have twenty digits, so that their order is that of their
/// text.
const ADVANCE: &str = "
local key, instances, turn = KEYS[1], KEYS[2], KEYS[3]
local seen = redis.call('GET', key)
if seen and seen == ARGV[2] .. ARGV[3] then
    return 1
end
if seen and ARGV[2] <= string.sub(seen, 1, 20) then
    return 0
end
redis.call('SET', key, ARGV[2] .. ARGV[3], 'PX', ARGV[1])
redis.call('ZADD', instances, redis.call('INCR', turn), key)
keep(instances, ARGV[1])
keep(turn, ARGV[1])
local surplus = redis.call('ZCARD', instances) - tonumber(ARGV[4])
if surplus > 0 then
    local popped = redis.call('ZPOPMIN', instances, math.min(surplus, 1000))
    for i = 1, #popped, 2 do
        redis.call('DEL', popped[i])
    end
end
return 1
";

const LEASE: &str = "
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
return 1
";

const RELEASE: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
return 1
";

/// No name has the byte 255, which is not in UTF-8.
const DOCUMENTS: &str = "
local documents = {}
for _, name in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], '[' .. ARGV[1], '(' .. ARGV[1] .. '\\255')) do
    local bytes = redis.call('HGET', KEYS[1], name)
    if bytes then
        documents[#documents + 1] = {name, bytes}
    end
end
return documents
";

const CHANGE: &str = "
if redis.call('EXISTS', KEYS[3]) == 1 then
    return 1
end
for i = 1, #ARGV, 3 do
    if ARGV[i + 1] == '1' then
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
        redis.call('ZADD', KEYS[2], 0, ARGV[i])
    else
        redis.call('HDEL', KEYS[1], ARGV[i])
        redis.call('ZREM', KEYS[2], ARGV[i])
    end
end
redis.call('SET', KEYS[3], 1, 'PX', 60000)
return 1
";

const CREATE: &str = "
local before = redis.call('GET', KEYS[3])
if before then
    return tonumber(before)
end
local created = redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
if created == 1 then
    redis.call('ZADD', KEYS[2], 0, ARGV[1])
    redis.call('SET', KEYS[3], created, 'PX', 60000)
end
return created
";

/// Forgets the starts of buckets that have expired, the oldest first.
const TRIM: &str = "
local index, indexes = KEYS[1], KEYS[2]
for _, start in ipairs(redis.call('ZRANGE', index, 0, 999)) do
    if redis.call('EXISTS', index .. ':' .. start) == 1 then
        break
    end
    redis.call('ZREM', index, start)
end
if redis.call('EXISTS', index) == 0 then
    redis.call('SREM', indexes, index)
end
return 1
";

impl Scripts {
    fn new() -> Scripts {
        let keeping = |code: &str| Script::new(&format!("{KEEP}{code}"));
        Scripts {
            put_part: keeping(PUT_PART),
            label: keeping(LABEL),
            park: keeping(PARK),
            unpark: Script::new(UNPARK),
            advance: keeping(ADVANCE),
            lease: Script::new(LEASE),
            release: Script::new(RELEASE),
            documents: Script::new(DOCUMENTS),
            change: Script::new(CHANGE),
            create: Script::new(CREATE),
            trim: Script::new(TRIM),
        }
    }

    fn all(&self) -> [&Script; 11] {
        let Scripts {
            put_part,
            label,
            park,
            unpark,
            advance,
            lease,
            release,
            documents,
            change,
            create,
            trim,
        } = self;
        [
            put_part, label, park, unpark, advance, lease, release, documents, change, create, trim,
        ]
    }
}

/// A server's address, understood but not yet asked.
pub struct Address {
    client: Client,
    prefix: String,
    /// The URL without its password.
    name: String,
}

impl Address {
    /// The schemes of URLs that name a server.
    pub const SCHEMES: [&str; 5] = ["redis", "valkey", "unix", "redis+unix", "valkey+unix"];

    /// Understands `redis://[user:password@]host[:port][/db][?prefix=...]`; the
    /// scheme `valkey` is the same, and `unix:///path/to/socket` is a socket.
    ///
    /// # Errors
    /// The URL is none of these; the text has no password. TLS (`rediss`) is
    /// not built in.
    pub fn parse(url: &str) -> Result<Address> {
        let name = without_password(url);
        let error = |why: &dyn fmt::Display| StoreError(format!("store {name}: {why}"));
        let (plain, prefix) = split_prefix(url);
        if plain.starts_with("rediss:") || plain.starts_with("valkeys:") {
            return Err(error(
                &"TLS is not built in; use redis:// over a private network or through a local TLS proxy such as stunnel",
            ));
        }
        // The parser's own error would repeat the URL with its password.
        let info = plain
            .as_str()
            .into_connection_info()
            .map_err(|e| error(&format!("{}; expected redis://host:port/db", why(&e))))?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let client = Client::open(info.set_tcp_settings(tcp)).map_err(|e| error(&why(&e)))?;
        Ok(Address { client, prefix, name })
    }
}

impl Redis {
    /// Connects to the server of a URL.
    ///
    /// # Errors
    /// As for [`Address::parse`] and [`Redis::open`].
    pub fn connect(url: &str) -> Result<Redis> {
        Redis::open(Address::parse(url)?)
    }

    /// Connects to a server.
    ///
    /// # Errors
    /// No server answers, or it refuses the password, or it is older than
    /// Redis 6.
    pub fn open(address: Address) -> Result<Redis> {
        let store = Redis {
            client: address.client,
            prefix: address.prefix,
            name: address.name,
            scripts: Scripts::new(),
            idle: Mutex::default(),
        };
        let info: String = store.run(|connection| cmd("INFO").query(connection))?;
        store.check_server(&info)?;
        Ok(store)
    }

    fn check_server(&self, info: &str) -> Result<()> {
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim()
        };
        let version = field("redis_version");
        let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
        if major.is_some_and(|major| major < 6) {
            return Err(self.error(format!("the server is Redis {version}; expected 6 or newer")));
        }
        if field("cluster_enabled") == "1" {
            return Err(self.error("the server is part of a Redis Cluster; expected a single primary"));
        }
        let store = self.name.as_str();
        if field("aof_enabled") == "0" {
            tracing::warn!(
                store,
                "the store's server keeps no append-only file: a crash of it loses labels and alerts since its last snapshot"
            );
        }
        let policy = field("maxmemory_policy");
        if !matches!(field("maxmemory"), "" | "0") && !matches!(policy, "" | "noeviction") {
            tracing::warn!(
                store,
                policy,
                "the store's server drops keys when memory is short; expected maxmemory-policy noeviction"
            );
        }
        Ok(())
    }

    fn error(&self, error: impl fmt::Display) -> StoreError {
        StoreError(format!("store {}: {error}", self.name))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, which knows the scripts.
    fn connection(&self) -> RedisResult<Connection> {
        let mut connection = self.client.get_connection_with_timeout(CONNECT_TIMEOUT)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        for script in self.scripts.all() {
            script.load(&mut connection)?;
        }
        Ok(connection)
    }

    /// Runs `call` on a connection, and once more on a new one if it breaks.
    fn run<T>(&self, call: impl Fn(&mut Connection) -> RedisResult<T>) -> Result<T> {
        let idle = self.idle().pop();
        let first = match idle {
            Some(connection) => Ok(connection),
            None => self.connection(),
        };
        let attempt = |connection: RedisResult<Connection>| {
            let mut connection = connection?;
            let value = call(&mut connection)?;
            let mut idle = self.idle();
            if idle.len() < IDLE_CONNECTIONS && connection.is_open() {
                idle.push(connection);
            }
            Ok(value)
        };
        match attempt(first) {
            Err(error) if is_broken(&error) => {
                // Those that wait are as old and most likely broken too.
                self.idle().clear();
                attempt(self.connection()).map_err(|e| self.error(why(&e)))
            }
            outcome => outcome.map_err(|e| self.error(why(&e))),
        }
    }

    /// The answers to all commands, in some round trips.
    fn run_all<T: FromRedisValue>(&self, commands: &[Cmd]) -> Result<Vec<T>> {
        let mut answers = Vec::with_capacity(commands.len());
        for some in commands.chunks(PIPELINE) {
            let pipeline = some
                .iter()
                .fold(Pipeline::with_capacity(some.len()), |mut pipeline, cmd| {
                    pipeline.add_command(cmd.clone());
                    pipeline
                });
            answers.extend(self.run(|connection| pipeline.query::<Vec<T>>(connection))?);
        }
        Ok(answers)
    }

    fn key(&self, rest: fmt::Arguments<'_>) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// The index of buckets of a kind (`p` or `s`).
    fn index(&self, kind: char, model: &str, seconds: u32) -> String {
        self.key(format_args!("{kind}:{}:{seconds}", short(model)))
    }

    fn indexes(&self) -> String {
        self.key(format_args!("indexes"))
    }

    fn document_keys(&self) -> [String; 2] {
        [self.key(format_args!("documents")), self.key(format_args!("names"))]
    }

    /// The hash of a model's parked labels.
    fn parking(&self, model: &str) -> String {
        self.key(format_args!("u:{}", short(model)))
    }

    /// A key for the outcome of one call.
    fn once(&self) -> String {
        self.key(format_args!("once:{}", Uuid::now_v7().simple()))
    }

    /// The hashes of the buckets that start in `[from, to)`, by start.
    fn buckets<T: FromRedisValue>(
        &self,
        kind: char,
        model: &str,
        seconds: u32,
        from: u64,
        to: u64,
    ) -> Result<Vec<(u64, T)>> {
        let index = self.index(kind, model, seconds);
        let range = |connection: &mut Connection| {
            let (from, to) = (from.to_string(), format!("({to}"));
            cmd("ZRANGEBYSCORE")
                .arg(&index)
                .arg(from)
                .arg(to)
                .query::<Vec<u64>>(connection)
        };
        let starts = self.run(range)?;
        let commands: Vec<Cmd> = starts
            .iter()
            .map(|start| cmd("HGETALL").arg(format!("{index}:{start}")).take())
            .collect();
        Ok(starts.into_iter().zip(self.run_all(&commands)?).collect())
    }
}

/// A script's run as a command.
fn calling(script: &Script, keys: &[&str]) -> Cmd {
    cmd("EVALSHA").arg(script.get_hash()).arg(keys.len()).arg(keys).take()
}

/// The command with parked labels, by their names in the hash.
fn with_parked(command: &mut Cmd, labels: &[Parked]) -> Cmd {
    for label in labels {
        let field = binary("", &label.key, &format!(":{}", label.row));
        command.arg(field).arg(&label.value);
    }
    command.take()
}

/// The URL without the query's prefix, and the prefix.
fn split_prefix(url: &str) -> (String, String) {
    let mut prefix = "modelet:".to_owned();
    let Some((head, query)) = url.split_once('?') else {
        return (url.to_owned(), prefix);
    };
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.strip_prefix("prefix=") {
            Some(given) => prefix = given.to_owned(),
            None => rest.push(pair),
        }
    }
    match rest.is_empty() {
        true => (head.to_owned(), prefix),
        false => (format!("{head}?{}", rest.join("&")), prefix),
    }
}

/// The URL with stars for its password.
fn without_password(url: &str) -> String {
    let url = url.split_once("pass=").map_or(url.to_owned(), |(head, tail)| {
        let rest = tail.find('&').map_or("", |end| &tail[end..]);
        format!("{head}pass=***{rest}")
    });
    let Some((scheme, rest)) = url.split_once("://") else {
        return url;
    };
    // A password that is not percent-encoded may hold any character.
    let Some((user, host)) = rest.rsplit_once('@') else {
        return url;
    };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:***@{host}"),
        None => format!("{scheme}://{user}@{host}"),
    }
}

/// An error in the server's words.
fn why(error: &RedisError) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
    }
    error.to_string()
}

/// Whether a new connection may do better: this one is lost, or leads to a
/// server that is no longer the primary or has forgotten the scripts.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || matches!(error.code(), Some("NOSCRIPT" | "READONLY" | "UNBLOCKED"))
}

/// A model's name in keys.
fn short(model: &str) -> String {
    let hash = Sha256::digest(model.as_bytes());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn milliseconds(keep: Duration) -> u64 {
    let ms = keep.as_millis().clamp(1, KEEP_MS);
    ms.try_into().expect("a hundred years of milliseconds have 42 bits")
}

/// The name of a key with bytes in it.
fn binary(head: &str, bytes: &[u8], tail: &str) -> Vec<u8> {
    [head.as_bytes(), bytes, tail.as_bytes()].concat()
}

/// What the script of a label answers: a number, and with it what was found, or
/// the number of the sum that was too large.
fn outcome(value: &Value, label: &Label) -> Result<Labelled, String> {
    let found = |value: &Value| Option::<Vec<u8>>::from_redis_value_ref(value).map_err(|e| e.to_string());
    match value {
        Value::Array(parts) => match parts.as_slice() {
            [Value::Int(1)] => Ok(Labelled::Counted),
            [Value::Int(0)] => Ok(Labelled::Found(None)),
            [Value::Int(0), value] => Ok(Labelled::Found(found(value)?)),
            [Value::Int(3)] => Ok(Labelled::Gone),
            [Value::Int(2), number] => {
                let number = u32::from_redis_value_ref(number).map_err(|e| e.to_string())?;
                Err(super::overflow(label, number).to_string())
            }
            _ => Err(format!("unexpected answer {value:?}")),
        },
        _ => Err(format!("unexpected answer {value:?}")),
    }
}

impl Store for Redis {
    fn put_parts(&self, parts: &[Part], keep: Duration) -> Result<()> {
        let (keep, indexes) = (milliseconds(keep), self.indexes());
        let command = |Part { bucket, writer, bytes }: &Part| {
            let index = self.index('p', &bucket.model, bucket.seconds);
            let key = format!("{index}:{}", bucket.start);
            calling(&self.scripts.put_part, &[&key, &index, &indexes])
                .arg(keep)
                .arg(bucket.start)
                .arg(writer)
                .arg(bytes)
                .take()
        };
        self.run_all::<()>(&parts.iter().map(command).collect::<Vec<_>>())?;
        Ok(())
    }

    fn parts(&self, model: &str, seconds: u32, from: u64, to: u64) -> Result<Vec<Part>> {
        let buckets = self.buckets::<Writers>('p', model, seconds, from, to)?;
        let of_bucket = |(start, mut writers): (u64, Writers)| {
            writers.sort();
            writers.into_iter().map(move |(writer, bytes)| Part {
                bucket: Bucket {
                    model: model.to_owned(),
                    seconds,
                    start,
                },
                writer,
                bytes,
            })
        };
        Ok(buckets.into_iter().flat_map(of_bucket).collect())
    }

    fn put_predictions(&self, model: &str, predictions: &[([u8; 16], &[u8])], keep: Duration) -> Result<()> {
        let (keep, head) = (milliseconds(keep), self.key(format_args!("k:{}:", short(model))));
        for some in predictions.chunks(PIPELINE) {
            let mut pipeline = Pipeline::with_capacity(some.len());
            for (key, value) in some {
                let key = binary(&head, key, "");
                pipeline.cmd("SET").arg(key).arg(value).arg("PX").arg(keep).ignore();
            }
            self.run(|connection| pipeline.exec(connection))?;
        }
        Ok(())
    }

    fn predictions(&self, model: &str, keys: &[[u8; 16]]) -> Result<Vec<Option<Vec<u8>>>> {
        let head = self.key(format_args!("k:{}:", short(model)));
        let mut predictions = Vec::with_capacity(keys.len());
        for some in keys.chunks(PIPELINE) {
            let some: Vec<Vec<u8>> = some.iter().map(|key| binary(&head, key, "")).collect();
            let found = self.run(|connection| cmd("MGET").arg(&some).query::<Vec<Option<Vec<u8>>>>(connection))?;
            predictions.extend(found);
        }
        Ok(predictions)
    }

    fn label(&self, labels: &[Label], keep: Duration) -> Result<Vec<Labelled>> {
        super::check(labels)?;
        let (keep, indexes) = (milliseconds(keep), self.indexes());
        let mut commands = Vec::with_capacity(labels.len());
        for label in labels {
            let head = self.key(format_args!("l:{}:", short(&label.model)));
            let key = binary(&head, &label.key, &format!(":{}", label.row));
            let mut command = cmd("EVALSHA");
            command
                .arg(self.scripts.label.get_hash())
                .arg(3)
                .arg(key)
                .arg(&indexes)
                .arg(self.parking(&label.model))
                .arg(keep)
                .arg(u8::from(label.previous.is_some()))
                .arg(label.previous.as_deref().unwrap_or_default())
                .arg(&label.value)
                .arg(binary("", &label.key, &format!(":{}", label.row)))
                .arg(u8::from(label.parked.is_some()))
                .arg(label.parked.as_deref().unwrap_or_default());
            for (bucket, sums) in &label.adds {
                let index = self.index('s', &bucket.model, bucket.seconds);
                let key = format!("{index}:{}", bucket.start);
                command.arg(key).arg(index).arg(bucket.start).arg(sums.len());
                for (number, add) in sums {
                    // The script could not take it back.
                    if *add == i64::MIN {
                        return Err(self.error(super::overflow(label, *number)));
                    }
                    command.arg(number).arg(add);
                }
            }
            commands.push(command);
        }
        let answers: Vec<Value> = self.run_all(&commands)?;
        let outcomes = answers.iter().zip(labels).map(|(value, label)| outcome(value, label));
        outcomes
            .collect::<Result<_, String>>()
            .map_err(|error| self.error(error))
    }

    fn park(&self, model: &str, labels: &[Parked], most: usize, keep: Duration) -> Result<Vec<bool>> {
        let (parking, keep) = (self.parking(model), milliseconds(keep));
        let commands = labels.chunks(PIPELINE).map(|some| {
            let mut command = calling(&self.scripts.park, &[&parking]);
            command.arg(keep).arg(most);
            with_parked(&mut command, some)
        });
        let taken: Vec<Vec<bool>> = self.run_all(&commands.collect::<Vec<_>>())?;
        Ok(taken.concat())
    }

    fn parked(&self, model: &str) -> Result<Vec<Parked>> {
        let parking = self.parking(model);
        let rows = self.run(|connection| {
            cmd("HGETALL")
                .arg(&parking)
                .query::<Vec<(Vec<u8>, Vec<u8>)>>(connection)
        })?;
        let parked = |(field, value): (Vec<u8>, Vec<u8>)| {
            let (key, rest) = field.split_first_chunk::<16>()?;
            let row = std::str::from_utf8(rest).ok()?.strip_prefix(':')?.parse().ok()?;
            Some(Parked { key: *key, row, value })
        };
        let mut labels: Vec<Parked> = rows.into_iter().filter_map(parked).collect();
        labels.sort();
        Ok(labels)
    }

    fn unpark(&self, model: &str, labels: &[Parked]) -> Result<Vec<bool>> {
        let parking = self.parking(model);
        let commands = labels
            .chunks(PIPELINE)
            .map(|some| with_parked(&mut calling(&self.scripts.unpark, &[&parking]), some));
        let removed: Vec<Vec<bool>> = self.run_all(&commands.collect::<Vec<_>>())?;
        Ok(removed.concat())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn sums(&self, model: &str, seconds: u32, from: u64, to: u64) -> Result<Vec<(u64, Sums)>> {
        let mut buckets: Vec<(u64, Sums)> = self.buckets('s', model, seconds, from, to)?;
        // Those that have expired, but for their place in the index.
        buckets.retain(|(_, sums)| !sums.is_empty());
        Ok(buckets)
    }

    fn advance(&self, instance: &str, sequence: u64, keep: Duration, most: u64) -> Result<bool> {
        let key = self.key(format_args!("i:{instance}"));
        let [instances, turn] = ["instances", "turn"].map(|name| self.key(format_args!("{name}")));
        let mut command = calling(&self.scripts.advance, &[&key, &instances, &turn]);
        command
            .arg(milliseconds(keep))
            .arg(format!("{sequence:020}"))
            .arg(Uuid::now_v7().simple().to_string())
            .arg(most.max(1));
        self.run(|connection| command.query(connection))
    }

    fn lease(&self, name: &str, holder: &str, keep: Duration) -> Result<bool> {
        let key = self.key(format_args!("lease:{name}"));
        let mut command = calling(&self.scripts.lease, &[&key]);
        command.arg(milliseconds(keep)).arg(holder);
        self.run(|connection| command.query(connection))
    }

    fn release(&self, name: &str, holder: &str) -> Result<()> {
        let key = self.key(format_args!("lease:{name}"));
        let mut command = calling(&self.scripts.release, &[&key]);
        command.arg(holder);
        self.run(|connection| command.exec(connection))
    }

    fn documents(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let [documents, names] = self.document_keys();
        let mut command = calling(&self.scripts.documents, &[&documents, &names]);
        command.arg(prefix);
        self.run(|connection| command.query(connection))
    }

    fn change(&self, changes: &[Change]) -> Result<()> {
        let ([documents, names], once) = (self.document_keys(), self.once());
        let mut command = calling(&self.scripts.change, &[&documents, &names, &once]);
        for (name, bytes) in changes {
            command
                .arg(name)
                .arg(u8::from(bytes.is_some()))
                .arg(bytes.as_deref().unwrap_or_default());
        }
        self.run(|connection| command.exec(connection))
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let ([documents, names], once) = (self.document_keys(), self.once());
        let mut command = calling(&self.scripts.create, &[&documents, &names, &once]);
        command.arg(name).arg(bytes);
        self.run(|connection| command.query(connection))
    }

    fn expire(&self) -> Result<()> {
        let indexes = self.indexes();
        let known: Vec<String> = self.run(|connection| cmd("SMEMBERS").arg(&indexes).query(connection))?;
        let trim = |index: &String| calling(&self.scripts.trim, &[index, &indexes]);
        self.run_all::<()>(&known.iter().map(trim).collect::<Vec<_>>())?;
        Ok(())
    }
}

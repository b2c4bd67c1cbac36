//! The service three times over one database: one process without the layer, and two with it, between which a client
//! goes to and fro.
//!
//! The demo fails when a client misses an order that it placed, or when a process does not stop as it should.

use std::{env, net::SocketAddr, path::Path, process::Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::PostgresCluster;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
};

const ROUNDS: usize = 5;
const HEADER: &str = "x-causal-token";

pub(crate) async fn play() -> Result<()> {
    let nodes = Nodes::find().await?;
    let plain = Process::start("plain", &nodes, Layer::Off).await?;
    let (a, b) = (Process::start("A", &nodes, Layer::On).await?, Process::start("B", &nodes, Layer::On).await?);
    println!(
        "The process without the layer listens on {}; with the layer, A listens on {} and B on {}.\n",
        plain.address, a.address, b.address
    );

    println!("── 1. By default: ordered and looked up in one process, without the layer ──\n");
    nodes.hold_replicas().await?;
    let mut missed = 0;
    for _ in 0..ROUNDS {
        let order = path_of(&order(&plain).await?)?;
        // Each request has a connection of its own, and so a task of its own in the service.
        let (here, there) = (plain.get(&order, &[]).await?, a.get(&order, &[]).await?);
        println!("  {order:<12}  in the same process {}   in another process {}", here.status, there.status);
        ensure!(here.status == 200, "the process missed its own {order}");
        missed += usize::from(there.status == 404);
    }
    nodes.explain_missed(missed, "another process")?;

    println!("── 2. With the layer: ordered at A, looked up at B ──\n");
    missed = 0;
    for _ in 0..ROUNDS {
        let answer = order(&a).await?;
        let (order, cookie, token) = (path_of(&answer)?, answer.cookie()?, answer.header(HEADER)?);
        let with_cookie = b.get(&order, &[("cookie", &cookie)]).await?;
        let with_header = b.get(&order, &[("x-causal-token", token)]).await?;
        let with_nothing = b.get(&order, &[]).await?;
        let at_home = a.get(&order, &[]).await?;
        println!(
            "  {order:<12}  with the cookie {}   with the header {}   with neither at B {}, at A {}",
            with_cookie.status, with_header.status, with_nothing.status, at_home.status
        );
        ensure!([with_cookie.status, with_header.status] == [200, 200], "the client missed its own {order}");
        ensure!(at_home.status == 200, "A missed its own {order}");
        ensure!(with_cookie.header("set-cookie").is_err(), "a request that wrote nothing set a cookie");
        missed += usize::from(with_nothing.status == 404);
    }
    nodes.explain_missed(missed, "B, asked without a token,")?;
    nodes.release_replicas().await?;

    println!("── 3. Other replicas for A, over its admin route ──\n");
    let replicas = nodes.replicas()?;
    let [fewer, all] = [&replicas[1..], &replicas[..]].map(|urls| json!(urls).to_string());
    for urls in [fewer, all] {
        let swap = a.post("/admin/replicas", &urls).await?;
        ensure!(swap.status == 200, "the swap failed: {}", swap.body);
        println!("  {}", swap.body);
        let answer = order(&a).await?;
        let order = path_of(&answer)?;
        let found = a.get(&order, &[("cookie", &answer.cookie()?)]).await?;
        ensure!(found.status == 200, "the client missed its own {order} after the swap");
    }
    let refused = a.post("/admin/replicas", "[\"postgres://nobody@127.0.0.1:1/nothing\"]").await?;
    ensure!(refused.status == 422, "a replica that is not there was taken: {}", refused.body);
    let topology = a.get("/admin/topology.json", &[]).await?;
    let members = topology.json()?["members"].as_array().map_or(0, Vec::len);
    ensure!(members == 1 + replicas.len(), "there are {members} members: {}", topology.body);
    println!("\n{}", a.get("/admin/topology", &[]).await?.body);

    println!("── 4. All stop ──\n");
    let page = b.get("/orders?page=0", &[]).await?.json()?;
    println!("  {} pages of orders at B; the latest order is {}", page["pages"], page["orders"][0]);
    for process in [plain, a, b] {
        ensure!(process.get("/ready", &[]).await?.status == 200, "{} is not ready", process.name);
        process.stop().await?;
    }
    Ok(())
}

/// Places an order, as a client that brings no token.
async fn order(at: &Process) -> Result<Answer> {
    let answer = at.post("/orders", &json!({ "customer": 1, "product": 2, "quantity": 3 }).to_string()).await?;
    ensure!(answer.status == 201, "the order was not taken: {} {}", answer.status, answer.body);
    Ok(answer)
}

fn path_of(answer: &Answer) -> Result<String> {
    let id = answer.json()?["id"].as_i64().context("an order has a number")?;
    Ok(format!("/orders/{id}"))
}

/// The database of all processes.
enum Nodes {
    /// What the environment names.
    Given,
    /// A cluster of our own.
    Own(PostgresCluster),
    /// Where no servers are installed.
    File(TempDir),
}

impl Nodes {
    async fn find() -> Result<Self> {
        if env::var_os("DATABASE_URL").is_some() {
            println!("Three processes over the servers of DATABASE_URL and DATABASE_REPLICA_URLS.");
            return Ok(Self::Given);
        }
        match PostgresCluster::start(2).await {
            Ok(cluster) => {
                println!("No DATABASE_URL: three processes over PostgreSQL, a primary and two replicas.");
                Ok(Self::Own(cluster))
            }
            Err(why) => {
                println!("No DATABASE_URL and no PostgreSQL ({why}): three processes over one SQLite file.");
                Ok(Self::File(tempfile::tempdir()?))
            }
        }
    }

    fn primary(&self) -> Result<String> {
        Ok(match self {
            Self::Given => env::var("DATABASE_URL")?,
            Self::Own(cluster) => cluster.primary().url(),
            Self::File(folder) => sqlite_url(folder.path()),
        })
    }

    fn replicas(&self) -> Result<Vec<String>> {
        let urls: Vec<_> = match self {
            Self::Given => env::var("DATABASE_REPLICA_URLS")?.split(',').map(str::to_owned).collect(),
            Self::Own(cluster) => cluster.replicas().iter().map(testkit::Server::url).collect(),
            Self::File(folder) => vec![sqlite_url(folder.path()); 2],
        };
        ensure!(urls.len() >= 2, "give at least two URLs, separated by a comma, in DATABASE_REPLICA_URLS");
        Ok(urls)
    }

    async fn hold_replicas(&self) -> Result<()> {
        if let Self::Own(cluster) = self {
            cluster.wait_caught_up().await?;
            for replica in cluster.replicas() {
                replica.pause_replay().await?;
            }
        }
        Ok(())
    }

    /// Says why reads missed orders, and fails when the replicas stand still and no read did.
    fn explain_missed(&self, missed: usize, by: &str) -> Result<()> {
        match self {
            Self::Own(_) => {
                println!("\n  The replicas replay nothing now: {by} missed {missed} of {ROUNDS} orders.\n");
                ensure!(missed > 0, "this demo could not have seen a stale read");
            }
            Self::File(_) => println!("\n  All nodes are one file here: no read can miss an order.\n"),
            Self::Given => println!("\n  Without waiting, {by} missed {missed} of {ROUNDS} orders.\n"),
        }
        Ok(())
    }

    async fn release_replicas(&self) -> Result<()> {
        if let Self::Own(cluster) = self {
            for replica in cluster.replicas() {
                replica.resume_replay().await?;
            }
            cluster.wait_caught_up().await?;
        }
        Ok(())
    }
}

pub(crate) fn sqlite_url(folder: &Path) -> String {
    format!("sqlite://{}?mode=rwc", folder.join("shop.db").display())
}

/// Whether a process has the layer.
#[derive(Clone, Copy, Debug)]
enum Layer {
    On,
    Off,
}

/// This program once more, as a service.
struct Process {
    name: &'static str,
    address: SocketAddr,
    child: Child,
    says: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn start(name: &'static str, nodes: &Nodes, layer: Layer) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        if matches!(layer, Layer::Off) {
            command.env("CAUSAL_LAYER", "off");
        }
        command.env("LISTEN", "127.0.0.1:0").env("DATABASE_URL", nodes.primary()?);
        command.env("DATABASE_REPLICA_URLS", nodes.replicas()?.join(","));
        command.env("DATABASE_PRIMARY_READ_SHARE", "0"); // so that reads miss what replicas miss
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut says = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        while let Some(line) = says.next_line().await? {
            if let Some(address) = line.strip_prefix("listening on ") {
                let address = address.parse()?;
                return Ok(Self { name, address, child, says });
            }
        }
        bail!("process {name} did not start: {}", child.wait().await?);
    }

    /// Asks it to stop, and waits until it has.
    async fn stop(mut self) -> Result<()> {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(id.context("it runs")?, Signal::TERM)?;
        let mut last = String::new();
        while let Some(line) = self.says.next_line().await? {
            last = line;
        }
        let status = self.child.wait().await?;
        println!("  {}: {status}, and its last word is `{last}`", self.name);
        ensure!(status.success() && last == "stopped", "process {} did not stop by itself", self.name);
        Ok(())
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.ask("GET", path, headers, "").await
    }

    async fn post(&self, path: &str, body: &str) -> Result<Answer> {
        self.ask("POST", path, &[("content-type", "application/json")], body).await
    }

    /// One request over a connection of its own.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let mut connection = TcpStream::connect(self.address).await?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}",
            self.address
        );
        connection.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        connection.read_to_string(&mut response).await?;
        Answer::read(&response).with_context(|| format!("{method} {path} at {}", self.name))
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn read(response: &str) -> Result<Self> {
        let (head, body) = response.split_once("\r\n\r\n").context("the answer has no end of its head")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Ok(Self { status, headers, body: body.to_owned() })
    }

    fn header(&self, wanted: &str) -> Result<&str> {
        let found = self.headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str()).with_context(|| format!("the answer has no {wanted}"))
    }

    /// What a browser sends back.
    fn cookie(&self) -> Result<String> {
        Ok(self.header("set-cookie")?.split(';').next().unwrap_or_default().to_owned())
    }

    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("{} {}", self.status, self.body))
    }
}

use std::{
    fs,
    io::{BufRead, BufReader},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use testkit::{Cluster, MariaDbCluster, PostgresCluster, Server};

/// The processes, folders and segments that a cluster could leave behind.
#[derive(Clone, Debug, Default)]
struct Traces {
    folders: Vec<PathBuf>,
    servers: Vec<u32>,
    /// The servers' children. They come and go on their own: an autovacuum worker, for one.
    children: Vec<u32>,
    /// System V shared memory of PostgreSQL, which SIGKILL leaves in the kernel.
    segments: Vec<String>,
}

impl Traces {
    fn of(cluster: &Cluster) -> Self {
        let mut traces = Self::default();
        for server in cluster.servers() {
            traces.add(server);
        }
        traces
    }

    fn add(&mut self, server: &Server) {
        let data = server.data_folder();
        let pid = server.pid().expect("the server runs");
        self.servers.push(pid);
        self.children.extend(children(pid));
        let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let segment = pid_file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
        self.segments.extend(segment.map(str::to_owned));
        self.folders.push(data.parent().and_then(|node| node.parent()).expect("cluster/node/data").to_owned());
    }

    fn remaining(&self) -> Vec<String> {
        let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        let ids: Vec<_> = segments.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        let folders = self.folders.iter().filter(|folder| folder.exists()).map(|folder| folder.display().to_string());
        let processes =
            self.servers.iter().chain(&self.children).filter(|pid| is_alive(**pid)).map(|pid| format!("process {pid}"));
        let kept = self.segments.iter().filter(|id| ids.contains(&id.as_str())).map(|id| format!("segment {id}"));
        folders.chain(processes).chain(kept).collect()
    }
}

fn status(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix(field)?.trim().to_owned()))
}

fn is_alive(pid: u32) -> bool {
    status(pid, "State:").is_some_and(|state| !state.starts_with('Z'))
}

fn children(parent: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .expect("this is Linux")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| status(*pid, "PPid:").is_some_and(|of| of == parent.to_string()))
        .collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn nothing_remains_after_a_drop() {
    let (postgres, mariadb) = runtime()
        .block_on(async { tokio::try_join!(PostgresCluster::start(2), MariaDbCluster::start(1)) })
        .expect("start");
    let traces = [Traces::of(&postgres), Traces::of(&mariadb)];
    assert_eq!(traces[0].segments.len(), 3);
    assert!(traces[0].children.len() > 3, "the children of PostgreSQL are watched too");
    let handle = postgres.replica(0).clone();
    postgres.replica(1).freeze().expect("it runs");
    runtime().block_on(postgres.replica(0).kill()).expect("it runs");

    drop((postgres, mariadb)); // without a runtime
    assert_eq!(traces[0].remaining(), [""; 0]);
    assert_eq!(traces[1].remaining(), [""; 0]);
    let error = runtime().block_on(handle.start()).expect_err("the cluster is gone");
    assert!(format!("{error:#}").contains("dropped"), "{error:#}");
}

#[test]
fn nothing_remains_after_a_panic() {
    let mut traces = Vec::new();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        runtime().block_on(async {
            let postgres = PostgresCluster::start(1).await.expect("start");
            let mariadb = MariaDbCluster::start(1).await.expect("start");
            traces.extend([Traces::of(&postgres), Traces::of(&mariadb)]);
            postgres.primary().freeze().expect("it runs");
            assert!(traces.is_empty(), "a failing test");
        });
    }));
    caught.expect_err("it panicked");
    for trace in traces {
        assert_eq!(trace.remaining(), [""; 0]);
    }
}

#[test]
fn nothing_remains_of_a_server_that_was_killed_and_rejoined() {
    let postgres = runtime().block_on(PostgresCluster::start(1)).expect("start");
    let mut traces = Traces::of(&postgres);
    runtime()
        .block_on(async {
            postgres.primary().kill().await?;
            postgres.promote(0).await?;
            postgres.rejoin(0).await
        })
        .expect("a failover");
    traces.add(&postgres.servers()[0]);
    drop(postgres);
    assert_eq!(traces.segments.len(), 3);
    assert_eq!(traces.remaining(), [""; 0]);
}

#[test]
fn nothing_remains_after_a_failed_start() {
    let failed = runtime().block_on(PostgresCluster::start_with(1, &[("port", "none")]));
    let error = failed.expect_err("no such port");
    let folder = error.to_string();
    let folder = folder.split("end of ").nth(1).and_then(|rest| rest.split("/node-").next()).expect("the log is named");
    assert!(!PathBuf::from(folder).exists(), "{folder} remains");
}

#[test]
fn nothing_remains_after_sigkill_of_the_test_process() {
    let itself = std::env::current_exe().expect("a test has a program");
    let mut child = Command::new(itself)
        .args(["--exact", "leftovers::child_that_waits_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut traces = Traces::default();
    for line in output.lines().map_while(Result::ok) {
        match line.split_once(": ") {
            Some(("folder", path)) => traces.folders.push(path.into()),
            Some(("server", pid)) => traces.servers.push(pid.parse().expect("a number")),
            Some(("child", pid)) => traces.children.push(pid.parse().expect("a number")),
            Some(("segment", id)) => traces.segments.push(id.to_owned()),
            Some(("ready", _)) => break,
            _ => {}
        }
    }
    assert_eq!((traces.folders.len(), traces.servers.len(), traces.segments.len()), (4, 4, 2));
    let lasting = Traces { children: Vec::new(), ..traces.clone() };
    assert_eq!(lasting.remaining().len(), 4 + 4 + 2, "all is there");
    child.kill().expect("it runs");
    child.wait().expect("it was ours");
    let killed = Instant::now();
    while !traces.remaining().is_empty() && killed.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(traces.remaining(), [""; 0]);
}

#[test]
#[ignore = "a part of nothing_remains_after_sigkill_of_the_test_process"]
fn child_that_waits_to_be_killed() {
    // On a thread that ends: what the servers are tied to is the process.
    let clusters = std::thread::spawn(|| {
        runtime().block_on(async { tokio::try_join!(PostgresCluster::start(1), MariaDbCluster::start(1)) })
    });
    let (postgres, mariadb) = clusters.join().expect("no panic").expect("start");
    postgres.replica(0).freeze().expect("it runs"); // also a stopped server has to go
    for cluster in [&*postgres, &*mariadb] {
        let traces = Traces::of(cluster);
        traces.folders.iter().for_each(|folder| println!("\nfolder: {}", folder.display()));
        traces.servers.iter().for_each(|pid| println!("server: {pid}"));
        traces.children.iter().for_each(|pid| println!("child: {pid}"));
        traces.segments.iter().for_each(|id| println!("segment: {id}"));
    }
    println!("ready: yes");
    std::thread::sleep(Duration::from_secs(60));
}

//! A ClickHouse server as an operator would run it, which can be killed and started again.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use xtask::lab::Namespace;

use crate::place::{program, until};

/// Password of the user `boss`, who may do all.
pub(crate) const PASSWORD: &str = "geheim";

/// Nobody else is in the namespace that it listens in.
const PORT: u16 = 8123;

const USERS: &str = "<clickhouse><profiles><default></default></profiles>
<quotas><default></default></quotas><users>
<default><password></password><networks><ip>127.0.0.1</ip></networks>
<profile>default</profile><quota>default</quota>
<grants><query>GRANT SYSTEM LISTEN ON *.*</query><query>GRANT READ ON FILE</query>
<query>GRANT CREATE TEMPORARY TABLE ON *.*</query></grants></default>
<boss><password>geheim</password><networks><ip>127.0.0.1</ip></networks>
<profile>default</profile><quota>default</quota>
<grants><query>GRANT ALL ON *.*</query></grants></boss>
</users></clickhouse>
";

pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    pub(crate) const PORT: u16 = PORT;

    /// Starts it on a folder of its own in this namespace, and waits until it answers.
    pub(crate) fn start(namespace: &Namespace, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let (config, users) = (folder.join("config.xml"), folder.join("users.xml"));
        let named = format!(
            "<clickhouse><users_config>{}</users_config></clickhouse>",
            users.display()
        );
        fs::write(&config, named).unwrap();
        fs::write(&users, USERS).unwrap();
        let child = Self::spawn(namespace, folder);
        let server = Self {
            child,
            folder: folder.to_owned(),
        };
        server.await_answer(namespace);
        server
    }

    /// Waits until it takes connections.
    pub(crate) fn await_answer(&self, namespace: &Namespace) {
        until("the server answers", || {
            let connected = namespace.enter(|| TcpStream::connect(("127.0.0.1", PORT)).is_ok());
            connected.unwrap()
        });
    }

    fn spawn(namespace: &Namespace, folder: &Path) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        let library = std::env::var_os("PINGER_LIBCHDB").unwrap();
        let mut command = namespace.command(program());
        command
            .args(["engine", &std::process::id().to_string(), "2", "library"])
            .arg(library)
            .arg(format!(
                "--config-file={}",
                folder.join("config.xml").display()
            ))
            .arg(format!("--path={}", folder.join("data").display()))
            .arg(format!("--http_port={PORT}"))
            .arg("--listen_host=127.0.0.1")
            .arg(
                "--query=SYSTEM START LISTEN HTTP; \
                 SELECT * FROM file('/dev/stdin', 'LineAsString') FORMAT Null",
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        command.spawn().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, which it notices no more.
    pub(crate) fn kill(&mut self) {
        // It may be dead already: then it cannot be killed twice.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it once more, if it is dead; it answers some time later.
    pub(crate) fn again(&mut self, namespace: &Namespace) {
        if self.child.try_wait().unwrap().is_some() {
            self.child = Self::spawn(namespace, &self.folder);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

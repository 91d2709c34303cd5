//! docker-registry on a free port of loopback, over an empty directory.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::client::remove;
use crate::errors::at;
use crate::programs::on_path;
use crate::stage::unsupported;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A registry, ended when it is dropped.
pub struct Registry {
    process: Child,
    dir: PathBuf,
    port: u16,
}

impl Registry {
    /// A registry that listens and holds nothing.
    ///
    /// # Errors
    /// That it is not installed; that it does not listen.
    pub fn start(dir: PathBuf) -> io::Result<Registry> {
        if !on_path("docker-registry") {
            return Err(unsupported("docker-registry is not installed"));
        }
        remove(&dir)?;
        fs::create_dir_all(&dir).map_err(|e| at(&dir, e))?;
        // Free now; whoever takes it before the registry does is seen below.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let config = dir.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            dir.join("data").display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(fs::File::create(dir.join("log"))?);
        crate::sys::die_with_parent(&mut command);
        let process = command.spawn()?;
        let mut registry = Registry { process, dir, port };
        registry.wait()?;
        Ok(registry)
    }

    /// The name of an image there.
    pub fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }

    /// Where it keeps what it was sent.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Ends it and takes its files away.
    ///
    /// # Errors
    /// Those of removing files.
    pub fn remove(self) -> io::Result<()> {
        let dir = self.dir.clone();
        drop(self);
        remove(&dir)
    }

    fn wait(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.process.try_wait()? {
                return Err(io::Error::other(format!("docker-registry ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("docker-registry does not listen"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("cannot end docker-registry: {error}");
        }
    }
}

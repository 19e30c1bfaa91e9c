//! A broker in this process on a data folder of its own, and the clock that it and its clients live by.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use haremq::auth::{
    Directory, HashingAlgorithm, PasswordHash, Permission, TopicPermission, User, UserLimits,
};
use haremq::broker::{AlarmReading, Broker};
use haremq::config::Settings;
use haremq::model::{Now, Refusal};
use haremq::server;
use haremq::session::SessionSettings;
use haremq::store::disk::{Disk, RealDisk};
use haremq::store::journal::JournalOptions;
use haremq::store::probe::Probe;
use haremq::store::{Options, Store, definitions};

use super::Client;

/// One running node.
pub struct Node {
    folder: tempfile::TempDir,
    settings: Settings,
    broker: Option<Arc<Broker>>,
    session: Arc<SessionSettings>,
    clock: Rc<Cell<Now>>,
}

impl Node {
    /// A node with the defaults, on an empty folder.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// A node with other settings.
    pub fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_from(change, None)
    }

    /// A node with the defaults, whose messages lie on this disk.
    pub fn start_on(disk: Arc<dyn Disk>) -> Self {
        Self::start_in(new_folder(), Settings::defaults(), disk)
    }

    /// A node with the defaults on a copy of a data folder.
    pub fn start_on_copy_of(data: &Path) -> Self {
        let folder = new_folder();
        copy(data, &folder.path().join("data"));
        Self::start_in(folder, Settings::defaults(), Arc::new(RealDisk))
    }

    fn start_in(folder: tempfile::TempDir, settings: Settings, disk: Arc<dyn Disk>) -> Self {
        let broker = open_on(&folder, &settings, disk);
        let now = broker.clock().now();
        Self {
            session: Arc::new(server::session_settings(&settings)),
            folder,
            settings,
            broker: Some(broker),
            clock: Rc::new(Cell::new(now)),
        }
    }

    /// A node that imports a definitions document beside its default account.
    pub fn start_with_definitions(json: &str) -> Self {
        Self::start_from(|_| {}, Some(json))
    }

    fn start_from(change: impl FnOnce(&mut Settings), definitions: Option<&str>) -> Self {
        let folder = new_folder();
        let mut settings = Settings::defaults();
        if let Ok(bytes) = std::env::var("HAREMQ_TEST_CACHE_BYTES") {
            settings.store.cache_bytes_max = bytes.parse().unwrap();
        }
        change(&mut settings);
        if let Some(json) = definitions {
            // Definitions that are there at the first start bring their own users: guest is made before.
            drop(open(&folder, &settings));
            let file = folder.path().join("import.json");
            std::fs::write(&file, json).unwrap();
            settings.load_definitions = Some(file);
        }
        Self::start_in(folder, settings, Arc::new(RealDisk))
    }

    /// The broker.
    pub fn broker(&self) -> &Arc<Broker> {
        self.broker.as_ref().unwrap()
    }

    /// The present time.
    pub fn now(&self) -> Now {
        self.clock.get()
    }

    /// Lets time pass, with every deadline of a queue on its way. Clients meet theirs when they do something.
    pub fn advance(&self, ms: u64) {
        let end = self.now().after(Duration::from_millis(ms));
        // What is due already runs first and tells the next deadline.
        let mut next = self.broker().run_due_timers(self.now());
        while let Some(deadline_ms) = next
            && deadline_ms <= end.wall_ms
        {
            let wait_ms = deadline_ms.saturating_sub(self.now().wall_ms);
            self.clock
                .set(self.now().after(Duration::from_millis(wait_ms)));
            next = self.broker().run_due_timers(self.now());
        }
        self.clock.set(end);
    }

    /// A client that has sent nothing yet.
    pub fn socket(&self) -> Client {
        self.socket_from("127.0.0.1:50000")
    }

    /// The same from another address.
    pub fn socket_from(&self, peer: &str) -> Client {
        let peer: SocketAddr = peer.parse().unwrap();
        Client::new(
            Arc::clone(self.broker()),
            Arc::clone(&self.session),
            Rc::clone(&self.clock),
            peer,
        )
    }

    /// A guest on an open connection to `/`.
    pub fn connect(&self) -> Client {
        self.connect_as("guest", "guest", "/")
    }

    /// A user on an open connection.
    pub fn connect_as(&self, user: &str, password: &str, vhost: &str) -> Client {
        let mut client = self.socket();
        client.handshake(user, password, vhost);
        client
    }

    /// A guest on an open connection with channel 1 open.
    pub fn client(&self) -> Client {
        self.client_as("guest", "guest", "/")
    }

    /// A user on an open connection with channel 1 open.
    pub fn client_as(&self, user: &str, password: &str, vhost: &str) -> Client {
        let mut client = self.connect_as(user, password, vhost);
        client.open_channel(1);
        client
    }

    /// Stops the node and starts it again on the same folder. Clients of before are as good as dead.
    pub fn restart(&mut self) {
        self.settings.load_definitions = None;
        let old = self.broker.take().unwrap();
        old.close().unwrap();
        drop(old);
        self.broker = Some(open(&self.folder, &self.settings));
    }

    /// The node as it is after its process was killed at this moment: another one, on a copy of the folder. What clients
    /// were not told of may be there or not.
    pub fn killed(&self) -> Self {
        let folder = new_folder();
        // A process that is killed leaves its files as they are at one moment. Here they are copied one after the other, so that
        // no checkpoint may be under way.
        self.broker().messages().checkpoint_now().unwrap();
        copy(
            &self.folder.path().join("data"),
            &folder.path().join("data"),
        );
        let mut settings = self.settings.clone();
        settings.load_definitions = None;
        Self {
            session: Arc::clone(&self.session),
            broker: Some(open(&folder, &settings)),
            folder,
            settings,
            clock: Rc::new(Cell::new(self.now())),
        }
    }

    /// Puts changed settings to use, as SIGHUP does.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.broker()
            .reconfigure(server::broker_settings(&self.settings));
        self.session = Arc::new(server::session_settings(&self.settings));
    }

    /// Adds or changes a user with all permissions in `/`.
    pub fn put_user(&self, name: &str, password: &str, tags: &[&str]) {
        self.put_user_with(name, password, tags, UserLimits::default());
        self.permit(name, ".*", ".*", ".*");
    }

    /// Adds or changes a user, without permissions.
    pub fn put_user_with(&self, name: &str, password: &str, tags: &[&str], limits: UserLimits) {
        let mut user = User::new(name);
        user.password =
            PasswordHash::create(HashingAlgorithm::Sha256, password.as_bytes()).unwrap();
        user.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        user.limits = limits;
        self.broker().directory().put_user(user);
    }

    /// Sets a user's permissions in `/`: configure, write, read.
    pub fn permit(&self, user: &str, configure: &str, write: &str, read: &str) {
        let permission = Permission {
            user: user.into(),
            vhost: "/".into(),
            configure: configure.to_owned(),
            write: write.to_owned(),
            read: read.to_owned(),
        };
        self.broker()
            .directory()
            .put_permission(permission)
            .unwrap();
    }

    /// Sets a user's topic permissions in `/` for an exchange: write, read.
    pub fn permit_topic(&self, user: &str, exchange: &str, write: &str, read: &str) {
        let permission = TopicPermission {
            user: user.into(),
            vhost: "/".into(),
            exchange: exchange.into(),
            write: write.to_owned(),
            read: read.to_owned(),
        };
        self.broker()
            .directory()
            .put_topic_permission(permission)
            .unwrap();
    }

    /// Sets which alarms are on.
    pub fn alarm(&self, is_memory_low: bool, is_disk_low: bool) {
        let reading = AlarmReading {
            memory_used_bytes: if is_memory_low { 2000 } else { 0 },
            memory_limit_bytes: 1000,
            disk_free_bytes: Some(if is_disk_low { 0 } else { 1000 }),
            disk_limit_bytes: 100,
            journal_roomy_for: Some(Duration::MAX),
            journal_file_bytes: 0,
            hysteresis_percent: 0,
        };
        if self.broker().alarms().judge(&reading) {
            self.broker().registry().alarm_changed();
        }
    }

    /// Tells every connection to close, as at the end of the server.
    pub fn close_all(&self, refusal: &Refusal) {
        self.broker().registry().close_all(refusal);
    }
}

/// In memory where there is such a folder: what a test waits for most are syncs.
fn new_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            match std::fs::copy(entry.path(), target) {
                // A file that is written anew has another name for a moment.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

fn open(folder: &tempfile::TempDir, settings: &Settings) -> Arc<Broker> {
    open_on(folder, settings, Arc::new(RealDisk))
}

fn open_on(folder: &tempfile::TempDir, settings: &Settings, disk: Arc<dyn Disk>) -> Arc<Broker> {
    let options = Options {
        definitions: definitions::Options {
            probe: Probe::InProcess,
            cache_bytes_max: 1024 * 1024,
            ..definitions::Options::default()
        },
        journal: JournalOptions {
            file_bytes: 1024 * 1024,
            ..server::store_options(settings).journal
        },
        disk,
        ..Options::default()
    };
    let store = Store::open(&folder.path().join("data"), options).unwrap();
    let (broker, report) = Broker::start(
        server::broker_settings(settings),
        Arc::new(Directory::new(server::auth_settings(settings))),
        store,
        &server::first_boot(settings),
        settings.load_definitions.as_deref(),
    )
    .unwrap();
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    broker
}

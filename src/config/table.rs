//! The table of all settings: name, type, what is allowed, default, unit, when a change takes effect,
//! RabbitMQ's name for it, what it is, and why its default is what it is.
//!
//! In: nothing. Out: the structs of [`Settings`], and [`SECTIONS`], which describes them. A row reads
//! `name: Type = kind, "default as TOML", "unit", effect, "RabbitMQ's key", "meaning", "reason";`.
//! `config/haremq.toml` and `docs/configuration.md` are written from it; a test keeps them fresh.

use std::path::PathBuf;

use super::define::settings;
use super::kind::{
    Boolean, FilePath, Hidden, Kind, NodeName, Pattern, ShortText, ShortTexts, Threads, addresses,
    choice, choices, integer, size, threshold, unless,
};
use super::value::{
    Amount, DefaultQueueType, Listeners, LogFormat, LogLevel, Mechanism, Secret, Sync,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Ten minutes: no wait of the broker's own is longer.
const WAIT_MS_MAX: u64 = 600_000;

settings! {
    Settings "" "Where the broker keeps its data and how it runs." {
        data_dir: PathBuf = FilePath, "\"./haremq-data\"", "path", Restart, "data_dir",
            "The folder of everything that survives a restart. It is created if it is missing, and one broker at a time may use it.",
            "A folder beside the caller needs no rights and is easy to find; a service sets its own.";
        load_definitions: Option<PathBuf> = unless("none", FilePath), "\"none\"", "path", Restart, "load_definitions",
            "A file with definitions (vhosts, users, permissions, exchanges, queues, bindings) in RabbitMQ's JSON form, which is imported at every start.",
            "A broker starts with what its data folder holds.";
        worker_threads: usize = Threads, "\"auto\"", "threads", Restart, "",
            "The threads that carry the connections.",
            "One a core keeps every core busy, and more only take turns.";
        + node: NodeSettings "What this node is called.";
        + announce: AnnounceSettings "What clients are told that they talk to.";
        + listen: ListenSettings "Where clients connect.";
        + http: HttpSettings "How the HTTP API behaves.";
        + limits: LimitSettings "What a client may use.";
        + timeouts: TimeoutSettings "How long the broker waits.";
        + auth: AuthSettings "Who may log in, and how.";
        + first_boot: FirstBootSettings "What is created with a new data folder.";
        + alarms: AlarmSettings "When publishers are stopped.";
        + store: StoreSettings "How messages are kept on the disk.";
        + queue: QueueSettings "What holds for queues and consumers that do not say otherwise.";
        + deprecated_features: DeprecatedFeatureSettings "What RabbitMQ 4.3 removed and this broker keeps.";
        + stats: StatsSettings "What is remembered of the past for the HTTP API.";
        + log: LogSettings "What is logged, and how.";
        + log_levels: LogLevelSettings "Levels of single parts.";
    }

    NodeSettings "node" "What this node is called." {
        name: String = NodeName, "\"haremq@<hostname>\"", "name@host", Restart, "nodename",
            "The name of this node in the HTTP API and in logs.",
            "RabbitMQ's form, because tools take it apart at the @.";
        cluster_name: String = ShortText, "\"<nodename>\"", "text", Restart, "cluster_name",
            "The name that connection.start and the HTTP API show for the cluster; `<nodename>` stands for node.name.",
            "RabbitMQ names a cluster after its first node.";
    }

    AnnounceSettings "announce" "What clients are told that they talk to: the server properties of connection.start, and the HTTP API." {
        product: String = ShortText, "\"RabbitMQ\"", "text", Restart, "product.name",
            "The product in the server properties.",
            "Clients branch on it: kombu, amqp091-go and others treat every other name as an unknown broker.";
        version: String = ShortText, "\"4.2.5\"", "version", Restart, "product.version",
            "The version in the server properties and in the HTTP API.",
            "Clients branch on it too: from 4.3.0 on they avoid transient shared queues and per-channel prefetch, which work here.";
    }

    ListenSettings "listen" "Where clients connect. Plain TCP." {
        amqp: Listeners = addresses(false), "[\"127.0.0.1:5672\", \"[::1]:5672\"]", "addresses with ports", Restart, "listeners.tcp",
            "Where AMQP 0-9-1 is served. A default address that the machine does not have is skipped with a log line; one that was asked for is an error.",
            "Nothing is open to the network until somebody says so.";
        http: Listeners = addresses(true), "[\"127.0.0.1:15672\", \"[::1]:15672\"]", "addresses with ports", Restart, "management.tcp",
            "Where the HTTP API is served.",
            "Nothing is open to the network until somebody says so.";
        metrics: Listeners = addresses(true), "[\"127.0.0.1:15692\", \"[::1]:15692\"]", "addresses with ports", Restart, "prometheus.tcp",
            "Where Prometheus scrapes the metrics; the HTTP API serves them too.",
            "Nothing is open to the network until somebody says so.";
        backlog: u32 = integer(1, 65_535), "1024", "connections", Restart, "tcp_listen_options.backlog",
            "How many connections the system holds for a listener until they are accepted.",
            "Enough for a fleet that reconnects at once; the system may cap it.";
    }

    HttpSettings "http" "How the HTTP API behaves." {
        max_body_bytes: u64 = size(64 * KIB, 1024 * MIB), "20000000", "bytes", Restart, "management.http.max_body_size",
            "The largest body of a request; a larger one is answered with 400.",
            "RabbitMQ's default. Definitions of tens of thousands of queues fit.";
        connections_max: u32 = integer(1, 65_535), "1000", "connections", Restart, "",
            "The connections that the HTTP listeners take together; more are closed at once.",
            "Enough for every tool and page, and far from the system's limit of open files.";
        header_timeout_ms: u64 = integer(100, WAIT_MS_MAX), "60000", "ms", Restart, "management.tcp.idle_timeout",
            "How long a client may take for the head of a request, and be idle between two.",
            "RabbitMQ's idle time. A client that trickles a request holds one of http.connections_max places for no longer.";
        cors_allow_origins: Vec<String> = ShortTexts, "[]", "origins", Restart, "management.cors.allow_origins",
            "The origins whose web pages may use the API, such as `https://example.org`; `*` is any, without credentials.",
            "RabbitMQ's default: none.";
        cors_max_age_s: u32 = integer(0, 4_294_967_295), "1800", "s", Restart, "management.cors.max_age",
            "How long a browser remembers what it was told of origins.",
            "RabbitMQ's default.";
        login_session_timeout_min: u32 = integer(1, 525_600), "480", "minutes", Restart, "management.login_session_timeout",
            "How long a session of POST /api/login lasts.",
            "RabbitMQ's default.";
    }

    LimitSettings "limits" "What a client may use. The bounds in bytes of one connection sum to 1 MiB by default, a message that is being received apart." {
        channel_max: u16 = integer(1, 65_535), "2047", "channels of a connection", Live, "channel_max",
            "The channels that are offered to a connection; a client may ask for fewer.",
            "RabbitMQ's default.";
        frame_bytes_max: u32 = size(8 * KIB, 16 * MIB), "131072", "bytes", Live, "frame_max",
            "The frame size that is offered to a connection; a client may ask for less, down to 8 KiB.",
            "RabbitMQ's default. Larger frames gain nothing and hold other channels up.";
        heartbeat_s: u16 = integer(0, 65_535), "60", "s", Live, "heartbeat",
            "The heartbeat that is offered to a connection; what the client answers holds, and 0 switches it off.",
            "RabbitMQ's default: a dead peer is noticed within three minutes.";
        connections_max: Option<u32> = unless("off", integer(0, 4_294_967_295)), "\"off\"", "connections", Live, "connection_max",
            "The AMQP connections that this node takes.",
            "The system's limit of open files is the natural one.";
        consumers_per_channel_max: Option<u32> = unless("off", integer(1, 4_294_967_295)), "\"off\"", "consumers", Live, "consumer_max_per_channel",
            "The consumers that one channel may have.",
            "RabbitMQ's default.";
        queues_max: Option<u32> = unless("off", integer(0, 4_294_967_295)), "\"off\"", "queues", Live, "cluster_queue_limit",
            "The queues of all vhosts together.",
            "RabbitMQ's default. A vhost can have a limit of its own.";
        exchanges_max: Option<u32> = unless("off", integer(0, 4_294_967_295)), "\"off\"", "exchanges", Live, "cluster_exchange_limit",
            "The exchanges of all vhosts together.",
            "RabbitMQ's default.";
        message_bytes_max: u64 = size(0, 512 * MIB), "\"16MiB\"", "bytes", Live, "max_message_size",
            "The largest body of a message; a larger one closes its channel with 406.",
            "RabbitMQ's default. Its hard top of 512 MiB holds here as well.";
        burst_bytes_max: usize = size(16 * KIB, 16 * MIB), "\"128KiB\"", "bytes of a connection", Restart, "",
            "What is read from one connection before the others have their turn.",
            "Large enough that a system call costs little per message, small enough that a flood delays others by well under a millisecond.";
        reply_bytes_max: usize = size(4 * KIB, 16 * MIB), "\"128KiB\"", "bytes of a connection", Restart, "",
            "The replies and returned messages that wait for a slow socket; above it the connection is not read.",
            "A client that does not read its answers gets no new ones.";
        inbox_bytes_max: usize = size(4 * KIB, 64 * MIB), "\"256KiB\"", "bytes of a connection", Restart, "",
            "The messages that queues have assigned to the consumers of one connection and that it has not yet sent.",
            "Covers the time until the connection's next turn; the rest stays in the queue, where other consumers can have it.";
        output_bytes_max: usize = size(4 * KIB, 64 * MIB), "\"256KiB\"", "bytes of a connection", Restart, "",
            "The encoded deliveries that wait for a slow socket; above it the connection takes no new ones.",
            "About what a socket's own buffer takes at once.";
        pending_bytes_max: usize = size(4 * KIB, 64 * MIB), "\"128KiB\"", "bytes of a connection", Restart, "",
            "The frames that wait while their channel waits for a durable answer; above it the connection is not read.",
            "A channel waits for one sync of the disk at most, and few clients send on meanwhile.";
    }

    TimeoutSettings "timeouts" "How long the broker waits." {
        handshake_ms: u64 = integer(100, WAIT_MS_MAX), "10000", "ms", Live, "handshake_timeout",
            "From the accepted socket to connection.open-ok; a slower client is dropped without a word.",
            "RabbitMQ's default.";
        close_ms: u64 = integer(100, WAIT_MS_MAX), "3000", "ms", Live, "",
            "For connection.close-ok, after the broker has closed a connection.",
            "What RabbitMQ waits.";
        shutdown_ms: u64 = integer(0, WAIT_MS_MAX), "5000", "ms", Live, "",
            "For connections to end after SIGTERM or SIGINT, before they are cut and the store closes.",
            "More than a client needs, and half of the 10 s that Docker waits before it kills, so that the store can close.";
    }

    AuthSettings "auth" "Who may log in, and how." {
        mechanisms: Vec<Mechanism> = choices(), "[\"PLAIN\", \"AMQPLAIN\", \"ANONYMOUS\"]", "list", Restart, "auth_mechanisms",
            "The SASL mechanisms that connection.start offers, in this order.",
            "RabbitMQ's default.";
        anonymous_login_user: Option<String> = unless("none", ShortText), "\"guest\"", "user", Restart, "anonymous_login_user",
            "The user as whom an ANONYMOUS client logs in; \"none\" refuses such clients.",
            "RabbitMQ's default. That user is bound to loopback as long as auth.loopback_users names it.";
        loopback_users: Vec<String> = ShortTexts, "[\"guest\"]", "users", Restart, "loopback_users",
            "Users who may log in from this machine only.",
            "guest has a password that everybody knows.";
    }

    FirstBootSettings "first_boot" "What is created with a new data folder. Later starts do not read this section." {
        default_user: String = ShortText, "\"guest\"", "user", FirstBoot, "default_user",
            "The first user. RABBITMQ_DEFAULT_USER names it too.",
            "RabbitMQ's default.";
        default_pass: Secret = Hidden, "\"guest\"", "password", FirstBoot, "default_pass",
            "The first user's password. RABBITMQ_DEFAULT_PASS gives it too.",
            "RabbitMQ's default, on which loopback_users keeps its hand.";
        default_vhost: String = ShortText, "\"/\"", "vhost", FirstBoot, "default_vhost",
            "The first vhost. RABBITMQ_DEFAULT_VHOST names it too.",
            "RabbitMQ's default.";
        default_user_tags: Vec<String> = ShortTexts, "[\"administrator\"]", "tags", FirstBoot, "default_user_tags",
            "The first user's tags.",
            "RabbitMQ's default: somebody must be able to create the next user.";
        default_permission_configure: String = Pattern, "\".*\"", "regular expression", FirstBoot, "default_permissions.configure",
            "The names that the first user may declare and delete in the first vhost.",
            "RabbitMQ's default.";
        default_permission_write: String = Pattern, "\".*\"", "regular expression", FirstBoot, "default_permissions.write",
            "The names to which the first user may publish or bind in the first vhost.",
            "RabbitMQ's default.";
        default_permission_read: String = Pattern, "\".*\"", "regular expression", FirstBoot, "default_permissions.read",
            "The names from which the first user may consume or bind in the first vhost.",
            "RabbitMQ's default.";
    }

    AlarmSettings "alarms" "When publishers are stopped: their sockets are no longer read, and those that can hear it get connection.blocked. Consumers go on." {
        memory_high_watermark: Amount = threshold(1.0), "0.6", "share of memory, or bytes", Live, "vm_memory_high_watermark",
            "The memory of the process that raises the alarm: a share of what the machine or the container has, or a size.",
            "RabbitMQ's default. What is left is for the system's cache and for peaks.";
        disk_free_limit: Amount = threshold(16.0), "\"50MB\"", "bytes, or share of memory", Live, "disk_free_limit",
            "The free space on the disk of the data folder under which the alarm is raised: a size, or a multiple of the memory.",
            "RabbitMQ's default. A production system wants more.";
        check_interval_ms: u64 = integer(10, WAIT_MS_MAX), "1000", "ms", Live, "memory_monitor_interval",
            "How often memory and disk are looked at.",
            "A fast publisher fills some hundred megabytes a second; looking costs microseconds.";
        hysteresis_percent: u8 = integer(0, 50), "5", "percent of the threshold", Live, "",
            "How far back over its threshold a value must go before its alarm is cleared.",
            "Without it publishers would be stopped and started at every look.";
    }

    StoreSettings "store" "How messages are kept on the disk." {
        sync: Sync = choice(), "\"always\"", "when", Restart, "",
            "When what was written is synced: always before a confirm, at intervals, or when the system likes. With interval or never a confirm means that the system has the message, and a power cut can lose what it had not written yet; the log says so at start. A policy's key sync says otherwise for its queues.",
            "A confirm is a promise.";
        sync_interval_ms: u64 = integer(1, 60_000), "200", "ms", Restart, "",
            "The time between syncs when store.sync, or the key sync of a policy, is interval.",
            "What a power cut may lose at most, then.";
        cache_bytes_max: u64 = size(MIB, 1024 * 1024 * MIB), "\"32MiB\"", "bytes of the node", Restart, "",
            "The messages of all queues that may be in memory while they wait; what is above lies on the disk only and is read again in time.",
            "A backlog costs disk and not memory; the system's own cache keeps what was written last.";
    }

    StatsSettings "stats" "What is remembered of the past for the HTTP API." {
        bytes_max: u64 = size(MIB, 1024 * 1024 * MIB), "\"64MiB\"", "bytes of the node", Live, "",
            "The memory that the histories of rates and lengths may take. Above it the objects that were idle for longest lose theirs; what was counted stays.",
            "About 20,000 busy queues with an hour of history.";
    }

    QueueSettings "queue" "What holds for queues and consumers that do not say otherwise." {
        default_type: DefaultQueueType = choice(), "\"classic\"", "queue type", Restart, "default_queue_type",
            "The type of a queue that is declared without x-queue-type, in a vhost without a default of its own.",
            "RabbitMQ's default.";
        default_consumer_prefetch: Option<u16> = unless("off", integer(1, 65_535)), "\"off\"", "messages", Live, "default_consumer_prefetch",
            "The prefetch of a consumer whose channel never sent basic.qos.",
            "RabbitMQ's default.";
    }

    DeprecatedFeatureSettings "deprecated_features.permit" "What RabbitMQ 4.3 removed and this broker keeps, under RabbitMQ's own names. false gives the behaviour of 4.3." {
        transient_nonexcl_queues: bool = Boolean, "true", "true or false", Live, "deprecated_features.permit.transient_nonexcl_queues",
            "Queues that are neither durable nor exclusive may be declared; false answers 541.",
            "Programs depend on them, and they harm nobody.";
        global_qos: bool = Boolean, "true", "true or false", Live, "deprecated_features.permit.global_qos",
            "basic.qos with global=true limits the channel as a whole; false takes it as global=false.",
            "The protocol says so, and clients written for it expect it.";
    }

    LogSettings "log" "What is logged, and how. The log goes to standard error." {
        format: LogFormat = choice(), "\"text\"", "format", Restart, "log.console.formatter",
            "One line of text for people, or one JSON object, for each event.",
            "The first reader is a person.";
        level: LogLevel = choice(), "\"info\"", "level", Live, "log.console.level",
            "The least severe event that is still logged.",
            "What an operator wants to find later, and nothing that a busy client can multiply.";
    }

    LogLevelSettings "log.levels" "Levels of single parts, where they differ from log.level." {
        connection: Option<LogLevel> = unless("inherit", choice()), "\"inherit\"", "level", Live, "log.connection.level",
            "Sockets, handshakes and connections.", "log.level holds.";
        channel: Option<LogLevel> = unless("inherit", choice()), "\"inherit\"", "level", Live, "log.channel.level",
            "Channels and their errors.", "log.level holds.";
        broker: Option<LogLevel> = unless("inherit", choice()), "\"inherit\"", "level", Live, "",
            "Vhosts, exchanges, definitions.", "log.level holds.";
        routing: Option<LogLevel> = unless("inherit", choice()), "\"inherit\"", "level", Live, "",
            "Bindings and the way of a message.", "log.level holds.";
        queue: Option<LogLevel> = unless("inherit", choice()), "\"inherit\"", "level", Live, "log.queue.level",
            "Queues and consumers.", "log.level holds.";
        auth: Option<LogLevel> = unless("inherit", choice()), "\"inherit\"", "level", Live, "log.user.level",
            "Logins, users and permissions.", "log.level holds.";
        store: Option<LogLevel> = unless("inherit", choice()), "\"inherit\"", "level", Live, "",
            "The data folder.", "log.level holds.";
        http: Option<LogLevel> = unless("inherit", choice()), "\"inherit\"", "level", Live, "",
            "The HTTP API.", "log.level holds.";
    }
}

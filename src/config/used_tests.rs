//! Tests of both steps together: precedence, and the text of every error.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::{Amount, Flag, LogLevel, Mechanism};

/// Loads a file's text, environment and flags, as a broker does at its start.
fn load(file: &str, environment: &[(&str, &str)], flags: Vec<Flag>) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("haremq.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        .collect();
    Sources::new(Some(path), environment, flags).load()
}

fn used(file: &str) -> Settings {
    load(file, &[], Vec::new()).unwrap().settings
}

/// The file must be refused with exactly these problems, told without the folder of the file.
fn check_refused(file: &str, expected: &[&str]) {
    let Err(ConfigError::Problems(problems)) = load(file, &[], Vec::new()) else {
        panic!("{file} is not refused");
    };
    let told: Vec<_> = problems
        .iter()
        .map(|problem| {
            let told = problem.to_string();
            told[told.find("haremq.toml").unwrap()..].to_owned()
        })
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn nothing_written_gives_the_defaults() {
    let settings = used("");
    assert_eq!(settings, Settings::defaults());
    assert_eq!(settings.limits.channel_max, 2047);
    assert_eq!(settings.limits.frame_bytes_max, 131_072);
    assert_eq!(settings.alarms.disk_free_limit, Amount::Bytes(50_000_000));
    assert_eq!(settings.auth.mechanisms, Mechanism::ALL);
    assert_eq!(settings.auth.anonymous_login_user.as_deref(), Some("guest"));
    assert_eq!(settings.announce.version, "4.2.5");
    assert!(settings.listen.amqp.defaulted);
    assert!(settings.worker_threads >= 1);
    assert_eq!(settings.node.cluster_name, settings.node.name);
    assert!(settings.node.name.starts_with("haremq@"));
}

#[test]
fn the_bounds_of_one_connection_sum_to_a_mebibyte() {
    let limits = Settings::defaults().limits;
    let sum = limits.burst_bytes_max
        + limits.reply_bytes_max
        + limits.inbox_bytes_max
        + limits.output_bytes_max
        + limits.pending_bytes_max;
    assert!(sum <= 1 << 20, "{sum}");
}

#[test]
fn flags_are_stronger_than_environment_than_file_than_defaults() {
    let file = "[limits]\nheartbeat_s = 1\nchannel_max = 10\n[log]\nlevel = \"error\"\n";
    let environment = [
        ("HAREMQ_LIMITS_CHANNEL_MAX", "20"),
        ("HAREMQ_LOG_LEVEL", "debug"),
    ];
    let flags = vec![Flag::one("--log-level", "log.level", "trace")];
    let settings = load(file, &environment, flags).unwrap().settings;
    assert_eq!(settings.limits.heartbeat_s, 1);
    assert_eq!(settings.limits.channel_max, 20);
    assert_eq!(settings.log.level, LogLevel::Trace);
    assert_eq!(settings.limits.message_bytes_max, 16 << 20);
}

#[test]
fn a_list_comes_from_commas_and_from_repeated_flags() {
    let environment = [
        ("HAREMQ_LISTEN_AMQP", "0.0.0.0:5672, [::]:5672"),
        ("HAREMQ_LISTEN_HTTP", "none"),
        ("HAREMQ_AUTH_LOOPBACK_USERS", "none"),
    ];
    let listen = load("", &environment, Vec::new()).unwrap().settings.listen;
    assert_eq!(listen.amqp.addresses.len(), 2);
    assert!(!listen.amqp.defaulted);
    assert!(listen.http.addresses.is_empty());

    let flags = vec![Flag::list(
        "--amqp",
        "listen.amqp",
        vec!["127.0.0.1:1".into()],
    )];
    let listen = load("", &environment, flags).unwrap().settings.listen;
    assert_eq!(listen.amqp.addresses, ["127.0.0.1:1".parse().unwrap()]);
}

#[test]
fn the_names_of_rabbitmqs_image_stand_between_the_file_and_our_own_names() {
    let file = "[first_boot]\ndefault_user = \"file\"\n";
    let environment = [
        ("RABBITMQ_DEFAULT_USER", "rabbit"),
        ("RABBITMQ_DEFAULT_PASS", "secret"),
        ("RABBITMQ_DEFAULT_VHOST", "house"),
    ];
    let first_boot = load(file, &environment, Vec::new())
        .unwrap()
        .settings
        .first_boot;
    assert_eq!(first_boot.default_user, "rabbit");
    assert_eq!(first_boot.default_pass.expose(), "secret");
    assert_eq!(first_boot.default_vhost, "house");

    let environment = [
        ("RABBITMQ_DEFAULT_USER", "rabbit"),
        ("HAREMQ_FIRST_BOOT_DEFAULT_USER", "hare"),
    ];
    let first_boot = load(file, &environment, Vec::new())
        .unwrap()
        .settings
        .first_boot;
    assert_eq!(first_boot.default_user, "hare");
}

#[test]
fn an_empty_variable_is_not_set() {
    let environment = [("RABBITMQ_DEFAULT_USER", ""), ("HAREMQ_DATA_DIR", "")];
    let settings = load("", &environment, Vec::new()).unwrap().settings;
    assert_eq!(settings, Settings::defaults());
}

#[test]
fn an_unknown_variable_is_a_warning_with_the_likely_name() {
    let environment = [
        ("HAREMQ_LISTEN_AMPQ", "0.0.0.0:5672"),
        ("HAREMQ_COLOUR", "brown"),
        ("HAREMQ_PORT_5672_TCP", "tcp://10.0.0.1:5672"),
        ("HAREMQ_SERVICE_HOST", "10.0.0.1"),
        ("RABBITMQ_NODENAME", "rabbit@a"),
    ];
    let warnings = load("", &environment, Vec::new()).unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "environment variable RABBITMQ_NODENAME is not read: use HAREMQ_NODE_NAME",
            "environment variable HAREMQ_LISTEN_AMPQ is no setting; did you mean HAREMQ_LISTEN_AMQP?",
            "environment variable HAREMQ_COLOUR is no setting",
        ]
    );
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_likely_key() {
    check_refused(
        "[limits]\n  hearbeat_s = 5\n",
        &["haremq.toml:2:3: unknown key `limits.hearbeat_s`; did you mean `limits.heartbeat_s`?"],
    );
    check_refused(
        "heartbeat_s = 5\n",
        &["haremq.toml:1:1: unknown key `heartbeat_s`; did you mean `limits.heartbeat_s`?"],
    );
    check_refused(
        "[colours]\nhare = \"brown\"\n",
        &["haremq.toml:1:2: unknown key `colours`; docs/configuration.md lists every key"],
    );
}

#[test]
fn rabbitmqs_own_key_is_translated() {
    check_refused(
        "vm_memory_high_watermark = 0.4\n",
        &[
            "haremq.toml:1:1: `vm_memory_high_watermark` is RabbitMQ's name; here it is \
             `alarms.memory_high_watermark`, a share of memory with a point, from 0.0 to 1.0, or a size \
             like \"50MB\"",
        ],
    );
}

#[test]
fn a_wrong_type_is_told_with_what_is_allowed() {
    check_refused(
        "[limits]\nheartbeat_s = \"soon\"\nmessage_bytes_max = true\n",
        &[
            "haremq.toml:2:15: `limits.heartbeat_s` is the text \"soon\"; allowed: a whole number from 0 to 65535",
            "haremq.toml:3:21: `limits.message_bytes_max` is true; allowed: a size from 0 to 512MiB, as a number \
             of bytes or like \"64MiB\" or \"50MB\"",
        ],
    );
    check_refused(
        "listen = 5672\n",
        &[
            "haremq.toml:1:1: `listen` is a section, not a setting: write [listen] and its settings below",
        ],
    );
    check_refused(
        "[log]\nlevel = \"loud\"\n",
        &[
            "haremq.toml:2:9: `log.level` is the text \"loud\"; allowed: one of \"off\", \"error\", \"warn\", \
             \"info\", \"debug\", \"trace\"",
        ],
    );
}

#[test]
fn a_value_out_of_range_is_told_with_the_range() {
    check_refused(
        "[limits]\nframe_bytes_max = 4096\nheartbeat_s = -1\n",
        &[
            "haremq.toml:2:19: `limits.frame_bytes_max` is the number 4096; allowed: a size from 8KiB to 16MiB, \
             as a number of bytes or like \"64MiB\" or \"50MB\"",
            "haremq.toml:3:15: `limits.heartbeat_s` is the number -1; allowed: a whole number from 0 to 65535",
        ],
    );
}

#[test]
fn a_bad_address_is_told_with_what_is_wrong() {
    check_refused(
        "[listen]\namqp = [\"localhost:5672\"]\n",
        &[
            "haremq.toml:2:8: `listen.amqp` is the list [the text \"localhost:5672\"] (a host name is not taken \
             here: write the machine's IP address); allowed: addresses with ports, like \"127.0.0.1:5672\" or \
             \"[::1]:5672\"",
        ],
    );
}

#[test]
fn toml_that_is_none_is_told_with_its_place() {
    let Err(ConfigError::Problems(problems)) = load("[limits]\nheartbeat_s 5\n", &[], Vec::new())
    else {
        panic!("not refused");
    };
    assert_eq!(problems.len(), 1);
    assert!(
        matches!(problems[0].origin, Origin::File { line: 2, .. }),
        "{problems:?}"
    );
    check_refused("x = 1\nx = 2\n", &["haremq.toml:2:1: duplicate key"]);
}

#[test]
fn environment_and_flags_name_themselves_in_errors() {
    let environment = [("HAREMQ_LIMITS_HEARTBEAT_S", "soon")];
    let flags = vec![Flag::list("--amqp", "listen.amqp", vec!["5672".into()])];
    let error = load("", &environment, flags).unwrap_err().to_string();
    assert_eq!(
        error,
        "flag --amqp: `listen.amqp` is \"5672\" (the port is missing); allowed: addresses with \
         ports, like \"127.0.0.1:5672\" or \"[::1]:5672\"\n\
         environment variable HAREMQ_LIMITS_HEARTBEAT_S: `limits.heartbeat_s` is \"soon\"; allowed: a whole \
         number from 0 to 65535"
    );
}

#[test]
fn a_missing_file_is_named() {
    let sources = Sources::new(Some("/nowhere/haremq.toml".into()), Vec::new(), Vec::new());
    let error = sources.load().unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read the configuration file /nowhere/haremq.toml: "),
        "{error}"
    );
}

#[test]
fn the_file_can_be_named_by_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    std::fs::write(&path, "data_dir = \"here\"\n").unwrap();
    let environment = vec![("HAREMQ_CONFIG".into(), path.into_os_string())];
    let loaded = Sources::new(None, environment, Vec::new()).load().unwrap();
    assert_eq!(loaded.settings.data_dir, PathBuf::from("here"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn what_is_printed_can_be_read_back_and_hides_the_password() {
    let mut settings =
        used("[first_boot]\ndefault_pass = \"hunter2\"\n[log.levels]\nqueue = \"debug\"\n");
    let printed = settings.render();
    assert!(!printed.contains("hunter2") && !format!("{settings:?}").contains("hunter2"));
    assert!(
        printed.contains("\n[deprecated_features.permit]\n"),
        "{printed}"
    );

    let mut read_back = used(&printed);
    read_back.listen = settings.listen.clone();
    settings.first_boot.default_pass = read_back.first_boot.default_pass.clone();
    assert_eq!(read_back, settings);
}

#[test]
fn a_refused_secret_is_not_shown() {
    check_refused(
        "[first_boot]\ndefault_pass = 12345\n",
        &[
            "haremq.toml:2:16: `first_boot.default_pass` is of another type; allowed: a text that is not empty",
        ],
    );
}

#[test]
fn a_permission_that_does_not_compile_is_refused() {
    let environment = [("HAREMQ_FIRST_BOOT_DEFAULT_PERMISSION_READ", "(")];
    let error = load("", &environment, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("not a regular expression"), "{error}");
}

//! The setters accept and refuse the same values as the command line.

use std::net::IpAddr;

use super::*;
use crate::config::privileges::User;

fn config() -> Config {
    Config::new("127.0.0.1:0".parse().unwrap(), ([192, 0, 2, 7], 80)).unwrap()
}

/// Returns the name of the field that was refused, and the value that the refusal shows.
fn refusal(result: Result<&mut Config, ConfigError>) -> (String, String) {
    match result {
        Err(ConfigError::Argument { argument, given }) => (format!("{argument:?}"), given.text),
        Err(ConfigError::Option { option, given, .. }) => (option.into(), given),
        Ok(config) => panic!("{config:?}"),
    }
}

#[test]
fn a_new_configuration_admits_only_loopback_addresses() {
    let mut config = config();
    let admits = |config: &Config, ip: &str| config.acl().admits(ip.parse().unwrap());
    for (address, expected) in
        [("127.9.9.9", true), ("::1", true), ("192.0.2.1", false), ("2001:db8::1", false)]
    {
        assert_eq!(admits(&config, address), expected, "{address}");
    }
    config.set_acl("192.0.2.0/24".parse().unwrap()).deny("192.0.2.9/32".parse().unwrap());
    assert!(admits(&config, "192.0.2.1") && !admits(&config, "127.0.0.1"));
    config.allow(Entry::Any);
    assert!(admits(&config, "2001:db8::1") && !admits(&config, "192.0.2.9"));
}

#[test]
fn an_entry_made_by_a_caller_becomes_the_network_that_its_text_would_be() {
    let mut config = config();
    let made = |net: &str| Entry::Net(net.parse().unwrap());
    config.set_acl(made("10.1.2.3/8")).allow(made("::ffff:192.0.2.0/120")).deny(made("10.9.9.9/16"));
    let written = |entries: &[Entry]| entries.iter().map(Entry::to_string).collect::<Vec<_>>();
    assert_eq!(written(config.acl().admitted()), ["10.0.0.0/8", "192.0.2.0/24"]);
    assert_eq!(written(config.acl().denied()), ["10.9.0.0/16"]);
    assert!(config.acl().admits([192, 0, 2, 7].into()) && !config.acl().admits([10, 9, 0, 1].into()));
}

#[test]
fn ranges_end_where_those_of_the_command_line_do() {
    const SECOND: Duration = Duration::from_secs(1);
    let mut config = config();
    for (valid, seconds) in [(true, 1), (true, 3), (false, 0), (false, 4)] {
        assert_eq!(config.set_connect_timeout(seconds * SECOND).is_ok(), valid, "{seconds}");
    }
    for (valid, seconds) in [(true, 1), (true, 1800), (false, 0), (false, 1801)] {
        assert_eq!(config.set_idle_timeout(seconds * SECOND).is_ok(), valid, "{seconds}");
    }
    for (valid, seconds) in [(true, 0), (true, 4_294_967_295), (false, 4_294_967_296)] {
        assert_eq!(config.set_absolute_timeout(Duration::from_secs(seconds)).is_ok(), valid, "{seconds}");
    }
    for (valid, bytes) in [(true, 100), (true, 4000), (false, 99), (false, 4001)] {
        assert_eq!(config.set_buf(bytes).is_ok(), valid, "{bytes}");
    }
    for (valid, count) in [(true, 1), (true, 100_000), (false, 0), (false, 100_001)] {
        assert_eq!(config.set_sessions(count).is_ok(), valid, "{count}");
        assert_eq!(config.set_max_per_source(Some(count)).is_ok(), valid, "{count}");
    }
    // The refused values have changed nothing.
    assert_eq!((config.connect_timeout(), config.idle_timeout()), (3 * SECOND, 1800 * SECOND));
    assert_eq!((config.buf(), config.sessions(), config.max_per_source()), (4000, 100_000, Some(100_000)));
}

#[test]
fn a_refusal_names_the_field_and_the_value() {
    let mut config = config();
    let half = refusal(config.set_idle_timeout(Duration::from_millis(1500)));
    assert_eq!(half, ("IdleTimeout".into(), "1.500000000 s".into()));
    assert_eq!(refusal(config.set_idle_timeout(Duration::ZERO)), ("IdleTimeout".into(), "0 s".into()));
    let text = config.set_buf(99).unwrap_err().to_string();
    assert!(text.contains("<buf> must be between 100 and 4000 inclusive."), "{text}");
    assert!(text.contains("\"99\""), "{text}");
    assert_eq!(refusal(config.set_sessions(0)), ("--sessions".into(), "0".into()));
    let cases = [("224.0.0.1:80", "TrgHost"), ("0.0.0.0:80", "TrgHost"), ("192.0.2.7:0", "TrgPort")];
    for (target, field) in cases {
        let target: SocketAddr = target.parse().unwrap();
        assert_eq!(refusal(config.set_target(target)).0, field, "{target}");
    }
    for listen in ["224.0.0.1:80", "255.255.255.255:80", "[fe80::1]:80"] {
        assert_eq!(refusal(config.set_listen(listen.parse().unwrap())).0, "--bind", "{listen}");
    }
    assert_eq!(
        config.target().address(),
        Some(([192, 0, 2, 7], 80).into()),
        "a refused value changes nothing"
    );
}

#[test]
fn a_fraction_of_a_second_is_refused_as_such_and_not_as_out_of_range() {
    let mut config = config();
    let cure = "Whole seconds are needed.";
    let part = config.set_idle_timeout(Duration::from_millis(1500)).unwrap_err().to_string();
    assert!(part.contains(cure) && part.contains("\"1.500000000 s\""), "{part}");
    let zero = config.set_idle_timeout(Duration::ZERO).unwrap_err().to_string();
    assert!(!zero.contains(cure), "{zero}");
}

#[test]
fn none_undoes_an_option_that_was_set() {
    let mut config = config();
    let new = config.clone();
    let host = IpAddr::from(Ipv4Addr::LOCALHOST);
    config.set_source(Some(host.into())).unwrap().set_max_per_source(Some(1)).unwrap();
    config.set_dscp(Some(1)).unwrap().set_user(User::new(1, 1)).set_chroot(Some("/".as_ref())).unwrap();
    assert_ne!(config, new);
    config.set_source(None).unwrap().set_max_per_source(None).unwrap();
    config.set_dscp(None).unwrap().set_user(None).set_chroot(None).unwrap();
    config.set_source_interface(None).unwrap().set_bind_interface(None).unwrap();
    assert_eq!(config, new);
}

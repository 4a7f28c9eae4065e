use super::*;

/// Every code that the service has met or is likely to meet.
#[test]
fn each_code_is_called_what_it_is() {
    let kind = |code: &str| match classified(code, "words".to_owned()) {
        DbError::Lost(_) => "lost",
        DbError::Busy(_) => "busy",
        DbError::Full(_) => "full",
        DbError::Unwritable(_) => "unwritable",
        DbError::ReadOnly(_) => "read-only",
        DbError::Denied(_) => "denied",
        DbError::Unknown(_) => "unknown",
        DbError::Duplicate(_) => "duplicate",
        DbError::Damaged(_) => "damaged",
        DbError::Other(_) => "other",
        DbError::Stopped => "stopped",
    };
    for (code, expected) in [
        ("08006", "lost"),
        ("08007", "unknown"),
        ("23505", "duplicate"),
        ("23503", "other"),
        ("25006", "read-only"),
        ("25P03", "lost"),
        ("28000", "denied"),
        ("28P01", "denied"),
        ("3D000", "denied"),
        ("40001", "busy"),
        ("40P01", "busy"),
        ("42501", "denied"),
        ("42P01", "other"),
        ("53100", "full"),
        ("53200", "lost"),
        ("53300", "lost"),
        ("55P03", "busy"),
        ("55000", "other"),
        ("57014", "busy"),
        ("57P01", "lost"),
        ("57P02", "lost"),
        ("57P03", "lost"),
        ("58030", "unwritable"),
        ("XX001", "other"),
    ] {
        assert_eq!(kind(code), expected, "{code}");
    }
}

#[test]
fn each_host_keeps_all_that_is_said_of_it() {
    let url = "postgresql://me:geheim@db1.example.org:6001,db2.example.org:6002/x?options=-cwork_mem%3D1MB\
               &target_session_attrs=read-write&channel_binding=require&sslmode=require";
    let config = parse(&url.to_owned().into()).unwrap();
    let hosts: Vec<_> = each_host(&config).collect();
    assert_eq!(
        hosts.iter().map(name_of).collect::<Vec<_>>(),
        ["db1.example.org port 6001", "db2.example.org port 6002"]
    );
    for host in hosts {
        assert_eq!(host.get_user(), Some("me"));
        assert_eq!(host.get_password(), Some(b"geheim".as_slice()));
        assert_eq!(host.get_dbname(), Some("x"));
        assert_eq!(host.get_options(), Some("-cwork_mem=1MB"));
        assert_eq!(host.get_channel_binding(), config.get_channel_binding());
        assert_eq!(host.get_ssl_mode(), SslMode::Require);
        assert_eq!(host.get_target_session_attrs(), TargetSessionAttrs::Any, "that is found out here");
    }
}

//! bus-config/nats-server.secure.conf against a real server: each user may do what it does, which is found out by doing it, and nothing else.

mod table;
mod work;

use std::process::Command;

use keelson_tests::binary;
use keelson_tests::nats::{NatsServer, password_variable, secured_configuration, users};
use keelson_tests::place::Place;
use keelson_tests::wire::Wire;
use serde_json::Value;

#[test]
fn every_role_is_a_user_and_no_password_is_written_down() {
    let listed = keelson_tests::keelson::run(&Place::new(), &["roles", "--json"]);
    let roles: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    let users = users();
    for role in roles {
        let name = role["name"].as_str().expect("a name");
        assert!(users.iter().any(|user| user == name), "the role {name} has no user in the configuration");
    }
    let text = std::fs::read_to_string(secured_configuration()).expect("the configuration");
    let passwords: Vec<&str> = text.lines().filter_map(|line| line.split("password: ").nth(1)).collect();
    let variables: Vec<String> = users.iter().map(|user| format!("${}", password_variable(user))).collect();
    assert_eq!(passwords, variables);
}

#[tokio::test]
async fn nobody_is_let_in_without_his_password() {
    let nats = NatsServer::start_secured().await;
    let address = nats.url().replace("nats://", "");
    for user in [None, Some(("metrics", "")), Some(("metrics", nats.password("cdn"))), Some(("root", "root"))]
    {
        let refused = Wire::connect(&address, user).await.err();
        assert_eq!(refused.as_deref(), Some("'Authorization Violation'"), "{user:?}");
    }
}

#[test]
fn a_server_that_was_not_told_a_password_does_not_start() {
    let mut command = Command::new(binary::nats_server());
    command.arg("--config").arg(secured_configuration()).arg("-t").env_clear();
    let forgotten = users().pop().expect("a user");
    for user in users().iter().filter(|user| **user != forgotten) {
        command.env(password_variable(user), "k1");
    }
    let output = command.output().expect("nats-server runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success());
    assert!(said.contains(&password_variable(&forgotten)), "{said}");
}

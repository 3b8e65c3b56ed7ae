use bson::rawdoc;

use super::*;

fn everything() -> Selection {
    Selection::default()
}

fn renamed() -> Selection {
    Selection::parse(&["a.*".into()], &[("a.*".to_owned(), "z.*".to_owned())].into()).unwrap()
}

fn insert(namespace: &str, id: i32) -> RawDocumentBuf {
    rawdoc! { "op": "i", "ns": namespace, "o": { "_id": id }, "o2": { "_id": id }, "ui": "left out" }
}

fn command(o: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! { "op": "c", "ns": "a.$cmd", "o": o, "ui": "left out" }
}

fn of_transaction(number: i64, o: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! { "op": "c", "ns": "admin.$cmd", "lsid": { "id": 1 }, "txnNumber": number, "o": o }
}

fn operations(entries: &[RawDocumentBuf], selection: &Selection) -> Result<Vec<Step>, String> {
    let mut replay = Replay::new(selection, Indexes::default());
    let mut steps = Vec::new();
    for entry in entries {
        steps.extend(replay.take(entry).map_err(|error| format!("{error:#}"))?);
    }
    Ok(steps)
}

/// In short: `i a.b 1`, `c {…}`, `run a {…}`.
fn told(steps: &[Step]) -> Vec<String> {
    let told = |step: &Step| match step {
        Step::Change(change) => {
            let id = change.get_document("o").unwrap().get_i32("_id").unwrap_or_default();
            format!("{} {} {id}", change.get_str("op").unwrap(), change.get_str("ns").unwrap())
        }
        Step::Command(command) => {
            let o: Document = command.get_document("o").unwrap().try_into().unwrap();
            format!("c {} {o}", command.get_str("ns").unwrap())
        }
        Step::Run(database, command) => format!("run {database} {command}"),
    };
    steps.iter().map(told).collect()
}

#[test]
fn changes_are_taken_where_they_are_asked_for() {
    let entries = [
        insert("a.b", 1),
        insert("b.b", 2),
        insert("config.x", 3),
        insert("admin.system.keys", 4),
        rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "create": "system.keys" } },
        rawdoc! { "op": "n", "ns": "", "o": {} },
    ];
    assert_eq!(told(&operations(&entries, &everything()).unwrap()), ["i a.b 1", "i b.b 2"]);
    assert_eq!(told(&operations(&entries, &renamed()).unwrap()), ["i z.b 1"]);
    let Step::Change(change) = &operations(&entries[..1], &everything()).unwrap()[0] else {
        panic!("no change")
    };
    assert_eq!(change, &rawdoc! { "op": "i", "ns": "a.b", "o": { "_id": 1 }, "o2": { "_id": 1 } });
}

#[test]
fn a_transaction_is_replayed_when_it_commits_and_not_at_all_when_it_does_not() {
    let part = |number, id: i32, mark: &str| {
        let mut o = rawdoc! { "applyOps": [insert("a.b", id)] };
        if !mark.is_empty() {
            o.append(cstr_of(mark), true);
        }
        of_transaction(number, o)
    };
    let entries = [
        part(1, 1, "partialTxn"),
        part(2, 2, "prepare"),
        part(3, 3, "prepare"),
        part(1, 4, ""),
        insert("a.b", 5),
        of_transaction(2, rawdoc! { "commitTransaction": 1 }),
        of_transaction(3, rawdoc! { "abortTransaction": 1 }),
    ];
    assert_eq!(
        told(&operations(&entries, &everything()).unwrap()),
        ["i a.b 1", "i a.b 4", "i a.b 5", "i a.b 2"]
    );
}

fn cstr_of(text: &str) -> &bson::raw::CStr {
    text.try_into().unwrap()
}

#[test]
fn commands_name_what_they_are_about_anew() {
    let cases = [
        (rawdoc! { "create": "c", "capped": true }, r#"c z.$cmd { "create": "c", "capped": true }"#),
        (rawdoc! { "drop": "c" }, r#"c z.$cmd { "drop": "c" }"#),
        (
            rawdoc! { "collMod": "c", "validator": { "x": 1 } },
            r#"c z.$cmd { "collMod": "c", "validator": { "x": 1 } }"#,
        ),
        (
            rawdoc! { "create": "system.buckets.t", "timeseries": { "timeField": "at" }, "validator": {}, "clusteredIndex": true },
            r#"run z { "create": "t", "timeseries": { "timeField": "at" } }"#,
        ),
    ];
    for (o, expected) in cases {
        assert_eq!(told(&operations(&[command(o.clone())], &renamed()).unwrap()), [expected], "{o:?}");
    }
    for nothing in [
        rawdoc! { "dropDatabase": 1 },
        rawdoc! { "startIndexBuild": "c", "indexes": [] },
        rawdoc! { "create": "system.views" },
    ] {
        assert_eq!(operations(&[command(nothing.clone())], &renamed()), Ok(vec![]), "{nothing:?}");
    }
}

#[test]
fn views_are_made_by_command() {
    let view = |op: &str, o: RawDocumentBuf| rawdoc! { "op": op, "ns": "a.system.views", "o": o, "o2": { "_id": "a.v" } };
    let entries = [
        view("i", rawdoc! { "_id": "a.v", "viewOn": "b", "pipeline": [] }),
        view("i", rawdoc! { "_id": "a.t", "viewOn": "system.buckets.t", "pipeline": [] }),
        view("u", rawdoc! { "_id": "a.v", "viewOn": "c", "pipeline": [] }),
        view("d", rawdoc! { "_id": "a.v" }),
    ];
    let expected = [
        r#"run z { "create": "v", "viewOn": "b", "pipeline": [] }"#,
        r#"run z { "collMod": "v", "viewOn": "c", "pipeline": [] }"#,
        r#"run z { "drop": "v" }"#,
    ];
    assert_eq!(told(&operations(&entries, &renamed()).unwrap()), expected);
}

#[test]
fn indexes_are_kept_for_the_end() {
    let everything = everything();
    let mut replay = Replay::new(&everything, Indexes::default());
    let names = |replay: &Replay<'_>| {
        let all = replay
            .indexes
            .commands()
            .into_iter()
            .flat_map(|(_, command)| command.get_array("indexes").unwrap().clone());
        all.map(|index| index.as_document().unwrap().get_str("name").unwrap().to_owned()).collect::<Vec<_>>()
    };
    let index = |name: &str| rawdoc! { "v": 2, "key": { "k": 1 }, "name": name };
    let commit = rawdoc! { "commitIndexBuild": "c", "indexes": [index("x"), index("y")] };
    let create = rawdoc! { "createIndexes": "c", "v": 2, "key": { "w": 1 }, "name": "w" };
    for entry in [commit, create, rawdoc! { "dropIndexes": "c", "index": "x" }] {
        assert_eq!(replay.take(&command(entry)).unwrap(), []);
    }
    assert_eq!(names(&replay), ["y", "w"]);
    let hide = rawdoc! { "collMod": "c", "index": { "name": "y", "hidden": true } };
    assert_eq!(replay.take(&command(hide)).unwrap(), []);
    replay.take(&command(rawdoc! { "drop": "c" })).unwrap();
    assert_eq!(names(&replay), [""; 0]);
}

#[test]
fn what_is_not_known_stops_the_replay() {
    for (entry, says) in [
        (command(rawdoc! { "shardCollection": "c" }), "shardCollection"),
        (command(rawdoc! { "renameCollection": "a.b", "to": "a.c" }), "renameCollection"),
        (rawdoc! { "op": "xi", "ns": "a.b", "o": {} }, "\"xi\""),
        (rawdoc! { "ns": "a.b", "o": {} }, "no op"),
    ] {
        let refused = operations(&[entry], &everything()).unwrap_err();
        assert!(refused.contains(says), "{says}: {refused}");
    }
}

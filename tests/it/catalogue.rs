//! The tables of built-in functions against the catalogues of the servers that run.
//!
//! Every built-in is known, a volatile one is harmless only by name, and a call of a harmless one leaves nothing behind. A
//! server newer than the tables may have functions that they do not know: those go to the primary.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use sea_orm::DbBackend;
use sea_orm_resolver::{Reason, classify};
use serde::Deserialize;
use testkit::{Cluster, MariaDbCluster, PostgresCluster};

use crate::corpus::{Engine, Link, MARIADB, Outcome, POSTGRES, Session, Trial};

/// The newest versions whose catalogues went into the tables.
const NEWEST_POSTGRES: u32 = 18;
const NEWEST_MARIADB: (u32, u32) = (10, 11);

/// `tests/spec/functions/postgres.toml`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ByHand {
    volatile_harmless: Vec<Group>,
    denied: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    names: Vec<String>,
    why: String,
    #[serde(default)]
    effect: String,
}

impl ByHand {
    fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/functions/postgres.toml");
        let by_hand: Self = toml::from_str(&fs::read_to_string(path)?)?;
        for group in by_hand.volatile_harmless.iter().chain(&by_hand.denied) {
            ensure!(!group.why.is_empty(), "no reason for {:?}", group.names);
        }
        ensure!(by_hand.denied.iter().all(|group| !group.effect.is_empty()), "an effect is missing");
        Ok(by_hand)
    }
}

fn names(groups: &[Group]) -> BTreeSet<&str> {
    groups.iter().flat_map(|group| group.names.iter().map(String::as_str)).collect()
}

/// The classification of a call that can only be of this built-in.
fn called(name: &str) -> Reason {
    classify(&format!("SELECT pg_catalog.\"{name}\"()"), DbBackend::Postgres).reason
}

/// The functions that SQL can call; the others take or return types that only the server's own code has.
const CALLABLE: &str = "pronamespace = 'pg_catalog'::regnamespace
    AND (prokind IN ('a', 'w') OR prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype)
         AND NOT ('internal'::regtype = ANY (proargtypes::regtype[])))";

#[tokio::test]
async fn every_built_in_of_postgres_is_known_and_a_volatile_one_only_by_name() -> Result<()> {
    let cluster = PostgresCluster::start(0).await?;
    let mut link = Link::open(&cluster.primary().admin_url()).await?;
    let version: u32 = link.texts("SHOW server_version_num").await?.concat().parse()?;
    let sql =
        format!("SELECT proname, bool_or(provolatile = 'v')::text FROM pg_proc WHERE {CALLABLE} GROUP BY proname");
    let rows = link.texts(&sql).await?;
    let by_hand = ByHand::read()?;
    let (harmless, denied) = (names(&by_hand.volatile_harmless), names(&by_hand.denied));

    let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
    for row in rows.chunks(2) {
        let (name, is_volatile) = (row[0].as_str(), row[1] == "true");
        match called(name) {
            Reason::UnknownFunction { .. } => unknown.push(name),
            Reason::PlainRead if is_volatile && !harmless.contains(name) => {
                wrong.push(format!("{name} is volatile, and harmless without a reason"));
            }
            Reason::PrimaryFunction { .. } if !is_volatile && !denied.contains(name) => {
                wrong.push(format!("{name} is not volatile, and denied without a reason"));
            }
            Reason::PlainRead | Reason::PrimaryFunction { .. } => {}
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows.len() > 2 * 2_000, "only {} functions", rows.len() / 2);
    println!("{} functions, {} unknown: {unknown:?}", rows.len() / 2, unknown.len());
    if version / 10_000 <= NEWEST_POSTGRES {
        assert_eq!(
            unknown,
            Vec::<&str>::new(),
            "scripts/function_tables.py knows the catalogues up to {NEWEST_POSTGRES}"
        );
    }
    Ok(())
}

/// `tsquery('a & b')` is a cast, which calls the input function of the type.
#[tokio::test]
async fn every_type_of_postgres_that_is_called_like_a_function_is_a_cast_that_only_reads() -> Result<()> {
    let cluster = PostgresCluster::start(0).await?;
    let mut link = Link::open(&cluster.primary().admin_url()).await?;
    let sql = "SELECT typname, (provolatile = 'v')::text FROM pg_type JOIN pg_proc ON pg_proc.oid = typinput
               WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A'";
    let types = link.texts(sql).await?;
    for row in types.chunks(2) {
        let expected = if row[1] == "true" { "unknown_function" } else { "plain_read" };
        assert_eq!(called(&row[0]).kind(), expected, "{}: scripts/function_tables.py has a table of the types", row[0]);
    }
    assert!(types.len() > 2 * 70, "only {} types", types.len() / 2);
    Ok(())
}

/// Runs each of the texts, and returns an error for each, or nothing.
const ATTEMPT: &str = "
CREATE FUNCTION public.attempt(texts text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    one text;
BEGIN
    FOREACH one IN ARRAY texts LOOP
        BEGIN
            EXECUTE one;
            RETURN NEXT '';
        EXCEPTION WHEN others THEN
            RETURN NEXT sqlstate || ' ' || sqlerrm;
        END;
    END LOOP;
END $$";

/// A call of every harmless built-in, once for each list of its arguments.
const CALLS: &str = "
SELECT proname,
       format('SELECT pg_catalog.%I(%s)%s', proname,
              (SELECT string_agg(CASE format_type(type, NULL)
                      WHEN 'text' THEN '''t''::text' WHEN 'name' THEN '''t''::name' WHEN 'cstring' THEN '''1''::cstring'
                      WHEN 'regclass' THEN '''t''::regclass' WHEN 'oid' THEN '''t''::regclass::oid'
                      WHEN 'boolean' THEN 'true' WHEN 'smallint' THEN '1::smallint' WHEN 'integer' THEN '1' WHEN 'bigint' THEN '1::bigint'
                      WHEN 'numeric' THEN '1.0' WHEN 'double precision' THEN '0.01::float8' WHEN 'real' THEN '0.5::real'
                      WHEN 'interval' THEN 'interval ''1 ms''' WHEN 'bytea' THEN '''a''::bytea'
                      WHEN 'timestamp with time zone' THEN 'now()' WHEN 'timestamp without time zone' THEN 'localtimestamp'
                      WHEN 'date' THEN 'current_date' WHEN 'json' THEN '''{}''::json' WHEN 'jsonb' THEN '''{}''::jsonb'
                      WHEN 'uuid' THEN '''00000000-0000-0000-0000-000000000000''::uuid' WHEN 'xml' THEN '''<a/>''::xml'
                      WHEN 'pg_lsn' THEN '''0/1''::pg_lsn' WHEN 'xid' THEN '''1''::xid' WHEN 'xid8' THEN '''1''::xid8'
                      WHEN 'tsvector' THEN '''a''::tsvector' WHEN 'tsquery' THEN '''a''::tsquery' WHEN '\"char\"' THEN '''r''::\"char\"'
                      WHEN 'text[]' THEN '''{t}''::text[]' WHEN 'inet' THEN '''::1''::inet' WHEN 'regconfig' THEN '''simple''::regconfig'
                      WHEN 'anyelement' THEN '1' WHEN 'anyarray' THEN 'ARRAY[1]' WHEN 'anynonarray' THEN '1'
                      WHEN 'anycompatible' THEN '1' WHEN 'anycompatiblearray' THEN 'ARRAY[1]' WHEN 'anyrange' THEN 'int4range(1, 2)'
                      WHEN '\"any\"' THEN '1' WHEN 'record' THEN 'ROW(1)' WHEN 'anyenum' THEN 'NULL'
                      ELSE 'NULL::' || format_type(type, NULL) END, ', ' ORDER BY place)
               FROM unnest(proargtypes) WITH ORDINALITY AS a(type, place)),
              CASE prokind WHEN 'a' THEN ' FROM t' WHEN 'w' THEN ' OVER () FROM t' ELSE '' END)
FROM pg_proc
WHERE prokind <> 'p' AND ";

#[tokio::test]
async fn no_harmless_built_in_of_postgres_leaves_anything() -> Result<()> {
    let cluster = PostgresCluster::start(1).await?;
    drop(Trial::prepare(&cluster, DbBackend::Postgres, POSTGRES).await?);
    let mut primary = Link::open(&cluster.primary().admin_url()).await?;
    primary.must(ATTEMPT).await?;
    cluster.wait_caught_up().await?;
    let enter = "SET search_path = numbers, public";
    let mut session = Session::open(&cluster.primary().admin_url(), enter, POSTGRES.questions).await?;
    let mut replica = Link::open(&cluster.replica(0).admin_url()).await?;
    for link in [&mut primary, &mut replica] {
        link.must(enter).await?;
    }
    replica.must(POSTGRES.read_only).await?;

    let rows = primary.texts(&format!("{CALLS} {CALLABLE} ORDER BY 1, 2")).await?;
    let calls: Vec<&str> =
        rows.chunks(2).filter(|row| called(&row[0]) == Reason::PlainRead).map(|row| row[1].as_str()).collect();
    let (mut ran, mut wrong) = (0, Vec::new());
    for calls in calls.chunks(100) {
        let answers = primary.texts(&attempt(calls)).await?;
        let valid: Vec<&str> =
            calls.iter().zip(&answers).filter(|(_, answer)| answer.is_empty()).map(|(call, _)| *call).collect();
        ran += valid.len();
        let answers = replica.texts(&attempt(&valid)).await?;
        let refused = valid.iter().zip(&answers).filter(|(_, answer)| !answer.is_empty());
        wrong.extend(refused.map(|(call, answer)| format!("{call} is refused by the replica: {answer}")));
        if !left(&mut session, &attempt(&valid)).await?.is_empty() {
            for call in valid {
                let left = left(&mut session, call).await?;
                if !left.is_empty() {
                    wrong.push(format!("{call} leaves {}", left.join(", ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{ran} of {} calls ran", calls.len());
    assert!(ran > 2_000, "only {ran} of {} calls ran", calls.len());
    Ok(())
}

fn attempt(calls: &[&str]) -> String {
    let texts: Vec<_> = calls.iter().map(|call| format!("'{}'", call.replace('\'', "''"))).collect();
    format!("SELECT public.attempt(ARRAY[{}]::text[])", texts.join(", "))
}

async fn left(session: &mut Session, sql: &str) -> Result<Vec<String>> {
    match session.attempt(sql).await? {
        Outcome::Ran(left) => Ok(left),
        Outcome::Refused(refusal) => anyhow::bail!("{sql}: {refusal}"),
    }
}

#[tokio::test]
async fn every_built_in_of_mariadb_is_known_and_no_harmless_one_leaves_anything() -> Result<()> {
    let cluster = MariaDbCluster::start(1).await?;
    drop(Trial::prepare(&cluster, DbBackend::MySql, MARIADB).await?);
    let mut link = Link::open(&cluster.primary().admin_url()).await?;
    let version = link.texts("SELECT VERSION()").await?.concat();
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next()).context("a version")?;
    // The table is new in 10.6.3.
    let functions = link.texts("SELECT LOWER(function) FROM information_schema.sql_functions").await?;
    assert!(functions.len() > 200, "only {} functions", functions.len());

    let mut unknown = Vec::new();
    let (mut harmless, mut ran) = (0, 0);
    let mut session = Session::open(&cluster.primary().admin_url(), "USE numbers", MARIADB.questions).await?;
    let mut replica = read_only(&cluster, MARIADB, "USE numbers").await?;
    for function in &functions {
        match classify(&format!("SELECT {function}()"), DbBackend::MySql).reason {
            Reason::UnknownFunction { .. } => unknown.push(function.as_str()),
            Reason::PlainRead => {
                harmless += 1;
                let mut has_run = false;
                for call in calls_of(function) {
                    match session.attempt(&call).await? {
                        Outcome::Refused(_) => continue,
                        Outcome::Ran(left) => assert!(left.is_empty(), "{call} leaves {left:?}"),
                    }
                    match replica.attempt(&call).await? {
                        Outcome::Refused(refusal) => panic!("{call} is refused by the replica: {refusal}"),
                        Outcome::Ran(left) => assert!(left.is_empty(), "{call} leaves {left:?}"),
                    }
                    has_run = true;
                }
                ran += usize::from(has_run);
            }
            _ => {}
        }
    }
    println!("{} functions, {harmless} harmless, {ran} ran, unknown: {unknown:?}", functions.len());
    if version <= NEWEST_MARIADB {
        assert_eq!(unknown, Vec::<&str>::new(), "scripts/catalogues/maria.txt is of {NEWEST_MARIADB:?}");
    }
    assert!(ran > 180, "only {ran} of {harmless} functions ran");
    Ok(())
}

async fn read_only(cluster: &Cluster, engine: Engine, enter: &str) -> Result<Session> {
    let setup = format!("{}; {enter}", engine.read_only);
    Session::open(&cluster.replica(0).admin_url(), &setup, engine.questions).await
}

/// The server does not tell the arguments of its functions.
fn calls_of(function: &str) -> Vec<String> {
    let lists = [
        "",
        "1",
        "1, 1",
        "1, 1, 1",
        "1, 1, 1, 1",
        "'x'",
        "'x', 'x'",
        "'x', 'x', 'x'",
        "'{}', '$.a'",
        "id",
        "'x' USING utf8mb4",
    ];
    lists.iter().map(|list| format!("SELECT {function}({list}) FROM t")).collect()
}

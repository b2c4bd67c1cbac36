#!/usr/bin/env python3
"""Writes src/routing/classify/functions/{postgres,mysql,sqlite}.rs.

  scripts/function_tables.py                       writes the tables
  scripts/function_tables.py --merge FILE...       first writes scripts/catalogues/postgres.txt, from one file for each
                                                   version, named like pg18.txt, with the answers to (psql -XAt)

    SELECT proname || ' ' || string_agg(DISTINCT provolatile::text, '') || ' ' || string_agg(DISTINCT prokind::text, '')
        || ' ' || bool_or(prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype)
                          AND NOT ('internal'::regtype = ANY (proargtypes::regtype[])))
    FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY proname

  scripts/function_tables.py --types FILE          first writes scripts/catalogues/postgres_types.txt from the answer to

    SELECT format('%s %s', typname, provolatile) FROM pg_type JOIN pg_proc ON pg_proc.oid = typinput
    WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A'

Input:
  scripts/catalogues/postgres_types.txt the types whose name is a cast, and the volatility of their input functions
  scripts/catalogues/postgres.txt       name, volatilities, kinds, whether SQL can call it, first and last version
  tests/spec/functions/postgres.toml    what the volatility does not say: kept by hand, with reasons
  scripts/catalogues/maria.txt          SELECT lower(function) FROM information_schema.sql_functions   (mariadb -N)
SQLite: pragma_function_list of the python module.  Everything else is the hand-kept text below:
a built-in is harmless only if it is immutable or stable and not denied by name, or volatile and harmless by name.
"""
import re, sqlite3, pathlib, sys, tomllib
root = pathlib.Path(__file__).resolve().parent.parent
out = root / "src/routing/classify/functions"

# ---------------------------------------------------------------- PostgreSQL
catalogue = root / "scripts/catalogues/postgres.txt"
def merge(files):
    seen = {}
    for file in files:
        version = int(re.search(r"(\d+)\.txt$", file)[1])
        for line in pathlib.Path(file).read_text().splitlines():
            name, vol, kind, callable_ = line.split()
            one = seen.setdefault(name, (set(), set(), set(), []))
            one[0].update(vol); one[1].update(kind); one[2].add(callable_); one[3].append(version)
    line = lambda name, one: (f"{name} {''.join(sorted(one[0]))} {''.join(sorted(one[1]))} "
                              f"{'true' if 'true' in one[2] else 'false'} {min(one[3])} {max(one[3])}\n")
    catalogue.write_text("".join(line(name, seen[name]) for name in sorted(seen)))
if sys.argv[1:2] == ["--merge"]: merge(sys.argv[2:])
types = root / "scripts/catalogues/postgres_types.txt"
if sys.argv[1:2] == ["--types"]: types.write_text("".join(sorted(pathlib.Path(sys.argv[2]).read_text().splitlines(True))))
rows = [l.split()[:4] for l in catalogue.read_text().splitlines()]
by_hand = tomllib.loads((root / "tests/spec/functions/postgres.toml").read_text())
PG_VOLATILE_OK = [name for group in by_hand["volatile_harmless"] for name in group["names"]]
PG_EXCEPTIONS = {name: group["effect"] for group in by_hand["denied"] for name in group["names"]}
# in no catalogue: the functions of an extension that are called like built-ins, and names that betas had
PG_MORE_DENIED = """pg_set_relation_stats pg_set_attribute_stats pg_wal_replay_wait dblink dblink_exec dblink_connect
dblink_connect_u dblink_disconnect dblink_open dblink_fetch dblink_close dblink_send_query dblink_get_result
dblink_cancel_query""".split()
# calls with a grammar of their own, and types with a precision; all are words that a user function cannot be called by
PG_SYNTAX = """
coalesce greatest least nullif cast extract position substring overlay trim treat normalize exists row grouping
xmlelement xmlforest xmlconcat xmlattributes xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable xmlexists xmlagg
json json_array json_arrayagg json_object json_objectagg json_exists json_query json_value json_table json_scalar
json_serialize merge_action values current_time current_timestamp localtime localtimestamp current_schema
char character nchar dec decimal float bit varchar numeric time timestamp interval precision setof
""".split()
def pg_effect(n):
    if n in PG_EXCEPTIONS: return PG_EXCEPTIONS[n]
    if n in ("nextval", "setval", "currval", "lastval", "pg_sequence_last_value", "pg_get_sequence_data"): return "Sequence"
    if "advisory" in n: return "Locks"
    if n.startswith("query_to_xml") or n.startswith("cursor_to_xml"): return "RunsText"
    if n.startswith("dblink"): return "RunsText"
    if n.startswith("lo_") or n in ("loread", "lowrite"): return "Writes"
    if n in ("set_config", "setseed", "pg_stat_clear_snapshot", "pg_get_backend_memory_contexts") or n.startswith("pg_stat_get_xact"): return "Session"
    if n.startswith("pg_current_wal"): return "Server"
    if n in ("pg_notify",): return "Writes"
    return "Server"
harmless, denied = set(PG_SYNTAX), {}
for name, vol, kind, callable_ in rows:
    if name != name.lower() or callable_ != "true" and not (set(kind) & set("aw")): continue
    if name in PG_EXCEPTIONS: denied[name] = PG_EXCEPTIONS[name]
    elif "v" in vol and name not in PG_VOLATILE_OK: denied[name] = pg_effect(name)
    else: harmless.add(name)
# tsquery('a & b') is a cast, which calls the input function of the type
for line in types.read_text().splitlines():
    name, vol = line.split()
    if vol != "v" and re.fullmatch(r"[a-z][a-z0-9_]*", name): harmless.add(name)
for n in PG_MORE_DENIED: denied[n] = pg_effect(n)
for n in [*PG_VOLATILE_OK, *PG_EXCEPTIONS]: assert any(r[0] == n for r in rows), n
PG = (harmless - set(denied), denied)

# ---------------------------------------------------------------- MySQL and MariaDB
maria = {l.strip() for l in (root / "scripts/catalogues/maria.txt").read_text().splitlines()[1:] if l.strip()}
MY_DENIED = {}
for eff, names in {
    "Session": "last_insert_id found_rows row_count connection_id ps_current_thread_id ps_thread_id",
    "Locks": "get_lock release_lock release_all_locks is_free_lock is_used_lock service_get_read_locks service_get_write_locks service_release_locks",
    # On MariaDB DEFAULT(column) evaluates the default of the column, which may be NEXT VALUE FOR a sequence.
    "Sequence": "nextval setval lastval default",
    "Server": """master_gtid_wait master_pos_wait source_pos_wait wait_for_executed_gtid_set wait_until_sql_thread_after_gtids
        binlog_gtid_pos wsrep_last_seen_gtid wsrep_last_written_gtid wsrep_sync_wait_upto_gtid load_file encrypt_file
        group_replication_set_as_primary group_replication_switch_to_single_primary_mode
        group_replication_switch_to_multi_primary_mode group_replication_set_write_concurrency
        group_replication_set_communication_protocol group_replication_get_communication_protocol
        asynchronous_connection_failover_add_source asynchronous_connection_failover_delete_source
        asynchronous_connection_failover_add_managed asynchronous_connection_failover_delete_managed
        asynchronous_connection_failover_reset version_tokens_set version_tokens_edit version_tokens_delete
        version_tokens_lock_shared version_tokens_lock_exclusive version_tokens_unlock
        keyring_key_store keyring_key_remove keyring_key_generate keyring_key_fetch mysql_firewall_flush_status set_firewall_mode
        audit_log_filter_set_user audit_log_filter_remove_user audit_log_filter_flush audit_log_rotate audit_log_encryption_password_set""",
    "RunsText": "sys_exec sys_eval sys_set",
}.items():
    for n in names.split(): MY_DENIED[n] = eff
MY_EXTRA = """
ascii char charset date day hour minute month second year time timestamp timestampadd timestampdiff if left right
user current_user current_role current_date current_time current_timestamp localtime localtimestamp sysdate utc_date utc_time
utc_timestamp get_format adddate subdate date_add date_sub count avg sum min max bit_and bit_or bit_xor group_concat
json_arrayagg json_objectagg std stddev stddev_pop stddev_samp variance var_pop var_samp row_number rank dense_rank
percent_rank cume_dist ntile lag lead first_value last_value nth_value coalesce convert cast binary values value
interval insert repeat replace truncate reverse mod position substr substring mid trim extract database schema
any_value grouping json_schema_valid json_schema_validation_report json_storage_size json_storage_free
json_value json_key_value json_object_to_array json_object_filter_keys json_array_intersect regexp_like regexp_replace
regexp_instr regexp_substr uuid_to_bin bin_to_uuid is_uuid uuid_v4 uuid_v7 weight_string format_bytes format_pico_time
statement_digest statement_digest_text gtid_subset gtid_subtract roles_graphml icu_version password old_password
validate_password_strength random_bytes password bit_count soundex to_vector string_to_vector from_vector vector_to_string
vector_dim vec_distance vec_distance_euclidean vec_distance_cosine vec_fromtext vec_totext
quote percentile_cont percentile_disc median sformat natural_sort_key contains rownum trunc nvl nvl2 json_normalize
point linestring polygon multipoint multilinestring multipolygon geometrycollection geomcollection
mbrcontains mbrcoveredby mbrcovers mbrdisjoint mbrequal mbrequals mbrintersects mbroverlaps mbrtouches mbrwithin
st_area st_asbinary st_asgeojson st_astext st_aswkb st_aswkt st_buffer st_buffer_strategy st_centroid st_collect st_contains
st_convexhull st_crosses st_difference st_dimension st_disjoint st_distance st_distance_sphere st_endpoint st_envelope
st_equals st_exteriorring st_frechetdistance st_geohash st_geomcollfromtext st_geomcollfromtxt st_geomcollfromwkb
st_geometrycollectionfromtext st_geometrycollectionfromwkb st_geometryfromtext st_geometryfromwkb st_geometryn
st_geometrytype st_geomfromgeojson st_geomfromtext st_geomfromwkb st_hausdorffdistance st_interiorringn st_intersection
st_intersects st_isclosed st_isempty st_issimple st_isvalid st_latfromgeohash st_latitude st_length st_linefromtext
st_linefromwkb st_lineinterpolatepoint st_lineinterpolatepoints st_linestringfromtext st_linestringfromwkb
st_longfromgeohash st_longitude st_makeenvelope st_mlinefromtext st_mlinefromwkb st_mpointfromtext st_mpointfromwkb
st_mpolyfromtext st_mpolyfromwkb st_numgeometries st_numinteriorring st_numinteriorrings st_numpoints st_overlaps
st_pointatdistance st_pointfromgeohash st_pointfromtext st_pointfromwkb st_pointn st_polyfromtext st_polyfromwkb
st_polygonfromtext st_polygonfromwkb st_simplify st_srid st_startpoint st_swapxy st_symdifference st_touches st_transform
st_union st_validate st_within st_x st_y st_relate st_isring st_boundary st_pointonsurface
geomfromtext geomfromwkb astext asbinary aswkt aswkb glength
""".split()
# reserved words and types before "(": index hints, joins, partitions, operators, CAST(x AS …) types
# and of columns of JSON_TABLE; all are words that neither server takes for a stored function.  Those that MariaDB does
# (escape, against, lateral, json_table) are in classify/grammar.rs.
MY_SYNTAX = """index key join straight_join partition div mod xor rlike regexp match exists row
decimal numeric dec fixed char character varchar nchar varbinary float double real signed unsigned datetime bit
int integer tinyint smallint mediumint bigint text tinytext mediumtext longtext blob tinyblob mediumblob longblob
by over high_priority distinctrow sql_small_result sql_big_result""".split()
# MariaDB: dynamic columns, which are values, and shapes by their old names.  Not x, y, area, within, … : a name that
# short is as likely a function of the user's.
MY_MARIA = """column_create column_add column_delete column_get column_exists column_list column_check column_json
geomcollfromtext geometrycollectionfromtext geometryfromtext geometryfromwkb linefromtext linefromwkb
linestringfromtext linestringfromwkb mlinefromtext mpointfromtext mpolyfromtext multilinestringfromtext
multipointfromtext multipolygonfromtext pointfromtext pointfromwkb polyfromtext polyfromwkb polygonfromtext
polygonfromwkb geometryn geometrytype numgeometries numinteriorrings numpoints pointn exteriorring interiorringn""".split()
MY = ((maria | set(MY_EXTRA) | set(MY_SYNTAX) | set(MY_MARIA)) - set(MY_DENIED) - {"encode_file"}, MY_DENIED)

# ---------------------------------------------------------------- SQLite
lite = {r[0] for r in sqlite3.connect(":memory:").execute("select distinct name from pragma_function_list")}
LITE_DENIED = {}
for eff, names in {
    "Session": "changes total_changes last_insert_rowid",
    "Server": "load_extension fts3_tokenizer sqlite_log fts5 rtreecheck_ edit readfile",
    "Writes": "optimize writefile pragma_optimize pragma_incremental_vacuum pragma_wal_checkpoint",
}.items():
    for n in names.split(): LITE_DENIED[n] = eff
LITE_EXTRA = """
concat concat_ws string_agg octet_length unistr unistr_quote if timediff unhex median percentile percentile_cont percentile_disc
jsonb jsonb_array jsonb_extract jsonb_insert jsonb_object jsonb_patch jsonb_remove jsonb_replace jsonb_set jsonb_group_array
jsonb_group_object json_error_position json_pretty json_each json_tree jsonb_each jsonb_tree json_array_insert generate_series
fts5_get_locale fts5_locale fts5_insttoken sqlite_offset row_number acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi
pow power radians sin sinh sqrt tan tanh trunc sign bm25 highlight snippet matchinfo offsets fts5_source_id
""".split()
# a pragma as a table-valued function: only those that report
LITE_PRAGMAS = """table_info table_xinfo table_list index_info index_list index_xinfo foreign_key_list foreign_key_check
integrity_check quick_check collation_list compile_options database_list function_list module_list pragma_list page_count
page_size freelist_count user_version application_id schema_version encoding""".split()
LITE_SYNTAX = "exists cast join using values glob like match raise escape coalesce regexp_".split()
LITE_TYPES = "char varchar numeric decimal int integer text real float double".split()  # CAST(x AS varchar(9)) only: after AS
lite_harmless = ({n for n in lite if re.fullmatch(r"[a-z0-9_]+", n)} | set(LITE_EXTRA) | {"pragma_" + p for p in LITE_PRAGMAS}
                 | {n for n in LITE_SYNTAX if not n.endswith("_") and n != "raise"}) - set(LITE_DENIED)
LITE = (lite_harmless, {k: v for k, v in LITE_DENIED.items() if not k.endswith("_")})

def write(path, title, origin, table):
    harmless, denied = table
    def names(items):
        line, text = "   ", []
        for n in items:
            if len(line) + len(n) + 4 > 110: text.append(line); line = "   "
            line += f' "{n}",'
        text.append(line)
        return "\n".join(text)
    h = sorted(harmless)
    d = sorted(denied)
    for n in h + d: assert re.fullmatch(r"[a-z][a-z0-9_]*", n), n
    body = f"""//! {title}: the built-in functions, by effect.
//!
//! Generated by `scripts/function_tables.py`: change the lists there. {origin}

use super::Effect;

/// Built-ins without an effect, and words that are followed by a parenthesis without being a call.
#[rustfmt::skip]
pub(super) static HARMLESS: [&str; {len(h)}] = [
{names(h)}
];

/// Built-ins that need the primary.
#[rustfmt::skip]
pub(super) static DENIED: [(&str, Effect); {len(d)}] = [
""" + "\n".join(f'    ("{n}", Effect::{denied[n]}),' for n in d) + """
];
"""
    (out / path).write_text(body)
    print(path, len(h), len(d))
write("postgres.rs", "PostgreSQL", "Source: `pg_proc` of PostgreSQL 14 to 18,\n//! and `tests/spec/functions/postgres.toml` for what the catalogue does not say.", PG)
write("mysql.rs", "MySQL and MariaDB", "Source: `information_schema.sql_functions`\n//! of MariaDB 10.11, and both manuals.", MY)
write("sqlite.rs", "SQLite", "Source: `pragma_function_list` of SQLite 3.40,\n//! and its documentation up to 3.50.", LITE)

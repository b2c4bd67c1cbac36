CREATE SCHEMA {world};
SET search_path = {world};
CREATE TABLE t (
    id int PRIMARY KEY DEFAULT 1, a {type} DEFAULT {value}, b {type} DEFAULT {value}, c {type} DEFAULT {value},
    d {type} DEFAULT {value}, e numeric DEFAULT 1, x {type} DEFAULT {value}, s text DEFAULT 's', n int DEFAULT 1,
    dat text, "update" {type} DEFAULT {value}, "delete" {type} DEFAULT {value}, "insert" {type} DEFAULT {value},
    "lock" int DEFAULT 1, "share" int DEFAULT 1, "key" int DEFAULT 1, "for" int, "into" int, "for update" text,
    lock_version int, for_sale bool, update_count int, select_into int
);
INSERT INTO t (id) VALUES (1), (2);
CREATE TABLE u (id int PRIMARY KEY, b {type}, y {type});
CREATE TABLE v (id int PRIMARY KEY, y {type});
CREATE TABLE w (id int PRIMARY KEY, y {type});
INSERT INTO u VALUES (1, {value}, {value});
CREATE TABLE "update" (a {type});
CREATE TABLE seq_values ("nextval" int, "currval" int, "setval" int);
CREATE SEQUENCE s;
SELECT nextval('s');
CREATE FUNCTION my_fn(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x';

CREATE DATABASE IF NOT EXISTS {world};
USE {world};
CREATE TABLE t (
    id int PRIMARY KEY DEFAULT 1, a {type} DEFAULT {value}, b {type} DEFAULT {value}, c {type} DEFAULT {value},
    d {type} DEFAULT {value}, e numeric DEFAULT 1, x {type} DEFAULT {value}, s varchar(9) DEFAULT 's', n int DEFAULT 1,
    `update` {type} DEFAULT {value}, `delete` {type} DEFAULT {value}, `insert` {type} DEFAULT {value}, `values` int,
    `lock` int DEFAULT 1, `share` int DEFAULT 1, `key` int DEFAULT 1, `for` int, `into` int, `for update` text,
    lock_version int, for_sale bool, update_count int, select_into int, INDEX i (n)
) {table};
INSERT INTO t (id) VALUES (1), (2);
CREATE TABLE u (id int PRIMARY KEY, b {type}, y {type}, INDEX j (id));
INSERT INTO u VALUES (1, {value}, {value});
CREATE TABLE v (id int PRIMARY KEY, y {type});
CREATE TABLE a (id int PRIMARY KEY, a {type}, b {type});
CREATE TABLE `update` (a {type});
CREATE TABLE f (id int PRIMARY KEY, a text, FULLTEXT (a));
CREATE SEQUENCE s;
SELECT NEXTVAL(s);
CREATE TABLE numbered (id int PRIMARY KEY, c bigint DEFAULT NEXT VALUE FOR s, d bigint DEFAULT (NEXTVAL(s) + 1));
INSERT INTO numbered VALUES (1, 1, 1);
CREATE FUNCTION my_fn(x int) RETURNS int DETERMINISTIC RETURN x;

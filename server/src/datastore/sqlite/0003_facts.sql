-- What a server has to know of itself: one row for each fact.

CREATE TABLE facts (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL);

CREATE VIEW show_facts AS
SELECT key AS name, json_extract(document, '$.value') AS value FROM facts;

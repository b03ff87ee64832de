-- Each thing is one row: a key, and a JSON document that says all the rest. Whoever looks into the
-- database finds the columns in the views, which cost nothing when rows are written.

-- "Stpl": whose database this is.
PRAGMA application_id = 1400139884;

CREATE TABLE store (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    -- Grows by one with each commit.
    revision INTEGER NOT NULL
);

INSERT INTO store (one, revision) VALUES (1, 0);

CREATE TABLE entries (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL);

CREATE VIEW show_entries AS
SELECT
    key AS id,
    json_extract(document, '$.spiffe_id') AS spiffe_id,
    json_extract(document, '$.parent_id') AS parent_id,
    json_extract(document, '$.selectors') AS selectors,
    json_extract(document, '$.revision') AS revision,
    datetime(json_extract(document, '$.created_at'), 'unixepoch') AS created_at,
    datetime(json_extract(document, '$.expires_at'), 'unixepoch') AS expires_at,
    document
FROM entries;

CREATE TABLE nodes (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL);

CREATE VIEW show_nodes AS
SELECT
    key AS id,
    json_extract(document, '$.attestation_type') AS attestation_type,
    json_extract(document, '$.serial') AS serial,
    json_extract(document, '$.serial') IS NULL AS banned,
    datetime(json_extract(document, '$.not_after'), 'unixepoch') AS not_after,
    json_extract(document, '$.selectors') AS selectors,
    document
FROM nodes;

CREATE TABLE bundles (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL);

CREATE VIEW show_bundles AS
SELECT
    key AS trust_domain,
    json_extract(document, '$.sequence') AS sequence,
    json_array_length(document, '$.x509_authorities') AS x509_authorities,
    json_array_length(document, '$.jwt_authorities') AS jwt_authorities,
    document
FROM bundles;

-- The key is the SHA-256 of the token.
CREATE TABLE join_tokens (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL);

CREATE VIEW show_join_tokens AS
SELECT
    key AS sha256,
    json_extract(document, '$.agent_id') AS agent_id,
    datetime(json_extract(document, '$.expires_at'), 'unixepoch') AS expires_at
FROM join_tokens;

CREATE TABLE journals (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL);

-- The latest commits, each a JSON array of rows: {table, key, document or null}.
CREATE TABLE commits (revision INTEGER NOT NULL PRIMARY KEY, changes TEXT NOT NULL);

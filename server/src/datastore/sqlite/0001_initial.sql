-- Each thing is one row: a key, and a JSON document that says all the rest. The other columns are
-- computed from the document, for whoever looks into the database.

-- "Stpl": whose database this is.
PRAGMA application_id = 1400139884;

CREATE TABLE store (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    -- Grows by one with each commit.
    revision INTEGER NOT NULL
);

INSERT INTO store (one, revision) VALUES (1, 0);

CREATE TABLE entries (
    key TEXT NOT NULL PRIMARY KEY,
    spiffe_id TEXT GENERATED ALWAYS AS (json_extract(document, '$.spiffe_id')) VIRTUAL,
    parent_id TEXT GENERATED ALWAYS AS (json_extract(document, '$.parent_id')) VIRTUAL,
    revision INTEGER GENERATED ALWAYS AS (json_extract(document, '$.revision')) VIRTUAL,
    created_at INTEGER GENERATED ALWAYS AS (json_extract(document, '$.created_at')) VIRTUAL,
    expires_at INTEGER GENERATED ALWAYS AS (json_extract(document, '$.expires_at')) VIRTUAL,
    document TEXT NOT NULL
);

CREATE TABLE nodes (
    key TEXT NOT NULL PRIMARY KEY,
    attestation_type TEXT GENERATED ALWAYS AS (json_extract(document, '$.attestation_type')) VIRTUAL,
    serial TEXT GENERATED ALWAYS AS (json_extract(document, '$.serial')) VIRTUAL,
    not_after INTEGER GENERATED ALWAYS AS (json_extract(document, '$.not_after')) VIRTUAL,
    document TEXT NOT NULL
);

CREATE TABLE bundles (
    key TEXT NOT NULL PRIMARY KEY,
    sequence INTEGER GENERATED ALWAYS AS (json_extract(document, '$.sequence')) VIRTUAL,
    document TEXT NOT NULL
);

-- The key is the SHA-256 of the token.
CREATE TABLE join_tokens (
    key TEXT NOT NULL PRIMARY KEY,
    expires_at INTEGER GENERATED ALWAYS AS (json_extract(document, '$.expires_at')) VIRTUAL,
    document TEXT NOT NULL
);

CREATE TABLE journals (
    key TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL
);

-- The latest commits, each a JSON array of rows: {table, key, document or null}.
CREATE TABLE commits (
    revision INTEGER NOT NULL PRIMARY KEY,
    changes TEXT NOT NULL
);

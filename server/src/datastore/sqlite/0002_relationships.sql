-- Relationships with other trust domains: where their bundles are found. The bundles are elsewhere,
-- and stay when a relationship ends.

CREATE TABLE relationships (key TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL);

CREATE VIEW show_relationships AS
SELECT
    key AS trust_domain,
    json_extract(document, '$.endpoint_url') AS endpoint_url,
    json_extract(document, '$.profile') AS profile
FROM relationships;

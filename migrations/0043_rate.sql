-- Token buckets of calls (S-F6: the same totals over all nodes). bucket_id is a hash over class, kind and account or address prefix. A bucket is one moment:
-- busy_until (us since 1970) moves on by one call's share for each call and may be at most a burst ahead of now. granted: calls that the last update gave.
CREATE TABLE rate_bucket (
    bucket_id bytea NOT NULL,
    busy_until bigint NOT NULL,
    granted bigint NOT NULL,
    CONSTRAINT rate_bucket_pkey PRIMARY KEY (bucket_id)
);
CREATE INDEX rate_bucket_busy_idx ON rate_bucket (busy_until);

-- name: blobs_missing
-- Touching is a hint for the collector of unused blobs: rows that somebody else is touching are left to them, and a
-- blob that was used a moment ago is not written again.
WITH asked AS (
    SELECT DISTINCT sha256 FROM unnest(CAST(:hashes AS text[])) AS a (sha256)
), stale AS (
    SELECT b.sha256
    FROM blobs b
    JOIN asked USING (sha256)
    WHERE b.project_id = :project_id AND b.last_used_at < clock_timestamp() - interval '10 minutes'
    ORDER BY b.sha256
    FOR UPDATE OF b SKIP LOCKED
), touched AS (
    UPDATE blobs b
    SET last_used_at = clock_timestamp()
    FROM stale
    WHERE b.project_id = :project_id AND b.sha256 = stale.sha256
)
SELECT a.sha256
FROM asked a
WHERE NOT EXISTS (
    SELECT FROM blobs b WHERE b.project_id = :project_id AND b.sha256 = a.sha256 AND NOT b.missing
)
ORDER BY a.sha256;

-- name: blobs_mark_missing
UPDATE blobs
SET missing = true
WHERE project_id = :project_id
  AND sha256 IN (
      SELECT sha256 FROM blobs
      WHERE project_id = :project_id AND sha256 = ANY (CAST(:hashes AS text[])) AND NOT missing
      ORDER BY sha256
      FOR UPDATE
  );

-- name: uploads_insert
INSERT INTO uploads (id, project_id, object_key, size, s3_upload_id, part_size, blobs)
SELECT u.id, :project_id, u.object_key, u.size, nullif(u.s3_upload_id, ''), u.part_size, CAST(u.blobs AS jsonb)
FROM unnest(
    CAST(:ids AS text[]), CAST(:object_keys AS text[]), CAST(:sizes AS bigint[]), CAST(:s3_upload_ids AS text[]),
    CAST(:part_sizes AS bigint[]), CAST(:blobs AS text[])
) AS u (id, object_key, size, s3_upload_id, part_size, blobs);

-- name: uploads_named
SELECT id, object_key, size, coalesce(s3_upload_id, '') AS s3_upload_id, completed_at IS NOT NULL AS completed
FROM uploads
WHERE project_id = :project_id AND id = ANY (CAST(:ids AS text[]));

-- name: uploads_complete
-- The first writer of a hash stays, unless its bytes turned out to be missing or wrong.
WITH done AS (
    UPDATE uploads
    SET completed_at = coalesce(completed_at, clock_timestamp())
    WHERE project_id = :project_id AND id = ANY (CAST(:ids AS text[]))
    RETURNING object_key, blobs
), parts AS MATERIALIZED (
    SELECT DISTINCT ON (b.sha256) b.sha256, b.size, b."offset", d.object_key
    FROM done d
    CROSS JOIN LATERAL jsonb_to_recordset(d.blobs) AS b (sha256 text, size bigint, "offset" bigint)
    ORDER BY b.sha256
), kept AS (
    INSERT INTO blobs (project_id, sha256, size, object_key, object_offset)
    SELECT :project_id, sha256, size, object_key, "offset" FROM parts ORDER BY sha256
    ON CONFLICT (project_id, sha256) DO UPDATE
    SET size = excluded.size,
        object_key = excluded.object_key,
        object_offset = excluded.object_offset,
        missing = false,
        last_used_at = clock_timestamp()
    WHERE blobs.missing
)
SELECT (SELECT count(*) FROM parts) AS stored, (SELECT count(*) FROM done) AS uploads;

-- name: uploads_abandoned
DELETE FROM uploads
WHERE id IN (
    SELECT id FROM uploads
    WHERE completed_at IS NULL AND created_at < clock_timestamp() - make_interval(secs => :older_than_s)
    ORDER BY created_at
    LIMIT :most
    FOR UPDATE SKIP LOCKED
)
RETURNING object_key, coalesce(s3_upload_id, '') AS s3_upload_id;

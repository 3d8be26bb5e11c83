-- name: log_append
-- Rows are locked in the order of their ids, so that two reports that name the same attempts never wait for each other
-- in a ring.
WITH reported AS (
    SELECT DISTINCT execution_id, attempt
    FROM unnest(CAST(:report_executions AS text[]), CAST(:report_attempts AS integer[])) AS r (execution_id, attempt)
), owned AS MATERIALIZED (
    SELECT a.execution_id, a.attempt, a.log_seq, a.log_bytes
    FROM attempts a
    JOIN reported r USING (execution_id, attempt)
    WHERE a.live AND a.runner_id = :runner_id
    ORDER BY a.execution_id
    FOR NO KEY UPDATE OF a
), fresh AS MATERIALIZED (
    SELECT c.execution_id, c.attempt, c.seq, c.stream, c.at, c.data
    FROM unnest(
        CAST(:executions AS text[]), CAST(:attempts AS integer[]), CAST(:firsts AS bigint[]), CAST(:seqs AS bigint[]),
        CAST(:streams AS smallint[]), CAST(:ats AS timestamptz[]), CAST(:datas AS bytea[])
    ) AS c (execution_id, attempt, first, seq, stream, at, data)
    JOIN owned o USING (execution_id, attempt)
    WHERE c.first <= o.log_seq + 1 AND c.seq > o.log_seq
), stored AS (
    INSERT INTO log_chunks (execution_id, attempt, seq, stream, at, data)
    SELECT execution_id, attempt, seq, stream, at, data FROM fresh
), totals AS MATERIALIZED (
    SELECT execution_id, attempt, max(seq) AS log_seq, sum(length(data)) AS bytes
    FROM fresh
    GROUP BY execution_id, attempt
), counted AS (
    UPDATE attempts a
    SET log_seq = t.log_seq, log_bytes = a.log_bytes + t.bytes
    FROM totals t
    WHERE a.execution_id = t.execution_id AND a.attempt = t.attempt
), summed AS (
    UPDATE executions e
    SET log_bytes = e.log_bytes + t.bytes
    FROM totals t
    WHERE e.id = t.execution_id
)
SELECT
    o.execution_id,
    o.attempt,
    coalesce(t.log_seq, o.log_seq) AS log_seq,
    o.log_bytes + coalesce(t.bytes, 0) AS log_bytes,
    t.log_seq IS NOT NULL AS added,
    CASE WHEN CAST(:relaxed AS boolean) THEN set_config('synchronous_commit', 'off', true) END
FROM owned o
LEFT JOIN totals t USING (execution_id, attempt);

-- name: log_page
-- One snapshot of where the execution stands and what was written after (:attempt, :seq). One row at least if the
-- execution exists; an attempt whose chunks are archived, or that has none after the cursor, has one row without a chunk.
SELECT
    e.ended_at IS NOT NULL AS final,
    e.version,
    e.attempt AS latest_attempt,
    a.attempt,
    a.phase,
    a.log_seq,
    a.log_object,
    a.log_index,
    c.seq,
    c.stream,
    c.at,
    c.data
FROM executions e
LEFT JOIN attempts a ON a.execution_id = e.id AND a.attempt >= :attempt
LEFT JOIN LATERAL (
    SELECT l.seq, l.stream, l.at, l.data
    FROM (
        SELECT n.*, sum(length(n.data)) OVER (ORDER BY n.seq) - length(n.data) AS before
        FROM (
            SELECT * FROM log_chunks n
            WHERE n.execution_id = e.id
              AND n.attempt = a.attempt
              AND n.seq > CASE WHEN a.attempt = :attempt THEN CAST(:seq AS bigint) ELSE 0 END
            ORDER BY n.seq
            LIMIT :most
        ) n
    ) l
    WHERE l.before < :limit_bytes
) c ON a.log_object IS NULL
WHERE e.id = :execution_id
ORDER BY a.attempt, c.seq
LIMIT :most;

-- name: log_attempts
SELECT attempt, log_seq, log_object, log_index
FROM attempts
WHERE execution_id = :execution_id
ORDER BY attempt;

-- name: log_backwards
SELECT seq, stream, at, data
FROM log_chunks
WHERE execution_id = :execution_id AND attempt = :attempt AND seq < :before
ORDER BY seq DESC
LIMIT :most;

-- name: log_first_since
SELECT seq
FROM log_chunks
WHERE execution_id = :execution_id AND attempt = :attempt AND at >= :since
ORDER BY seq
LIMIT 1;

-- name: log_archivable
-- An attempt is done with when log_size is set: its log is in the store and its chunks are deleted.
SELECT a.execution_id, a.attempt, a.log_seq, a.log_object, a.log_index, e.project_id
FROM attempts a
JOIN executions e ON e.id = a.execution_id
WHERE NOT a.live
  AND a.log_seq > 0
  AND a.log_size IS NULL
  AND a.ended_at < clock_timestamp() - make_interval(secs => :older_than_s)
ORDER BY a.ended_at
LIMIT :most;

-- name: log_chunks_after
SELECT seq, stream, at, data
FROM (
    SELECT n.*, sum(length(n.data)) OVER (ORDER BY n.seq) - length(n.data) AS before
    FROM (
        SELECT * FROM log_chunks
        WHERE execution_id = :execution_id AND attempt = :attempt AND seq > :after
        ORDER BY seq
        LIMIT :most
    ) n
) l
WHERE before < :limit_bytes
ORDER BY seq;

-- name: log_archived
-- The first archiver of an attempt wins; what another one stored is nobody's.
UPDATE attempts a
SET log_object = :log_object, log_offset = n.log_offset, log_index = CAST(n.log_index AS jsonb)
FROM unnest(
    CAST(:executions AS text[]), CAST(:attempts AS integer[]), CAST(:offsets AS bigint[]), CAST(:indexes AS text[])
) AS n (execution_id, attempt, log_offset, log_index)
WHERE a.execution_id = n.execution_id AND a.attempt = n.attempt AND NOT a.live AND a.log_object IS NULL
RETURNING a.execution_id, a.attempt;

-- name: log_delete_ranges
DELETE FROM log_chunks c
USING unnest(
    CAST(:executions AS text[]), CAST(:attempts AS integer[]), CAST(:afters AS bigint[]), CAST(:uptos AS bigint[])
) AS r (execution_id, attempt, after, upto)
WHERE c.execution_id = r.execution_id AND c.attempt = r.attempt AND c.seq > r.after AND c.seq <= r.upto;

-- name: log_done_with
UPDATE attempts a
SET log_size = n.log_size
FROM unnest(CAST(:executions AS text[]), CAST(:attempts AS integer[]), CAST(:sizes AS bigint[]))
    AS n (execution_id, attempt, log_size)
WHERE a.execution_id = n.execution_id
  AND a.attempt = n.attempt
  AND a.log_object IS NOT NULL
  AND a.log_size IS NULL;

-- name: log_batch
SELECT batch_id FROM executions WHERE id = :execution_id;

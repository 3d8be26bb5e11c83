-- Batches and their items.

-- name: batch_counts
SELECT batch_id, status, count(*) AS number
FROM executions
WHERE batch_id = ANY (CAST(:ids AS text[])) AND latest
GROUP BY batch_id, status

-- name: hosts_online
SELECT runtimes, labels, resources, allowed_images
FROM runners
WHERE NOT draining AND last_seen_at > clock_timestamp() - interval '40 seconds'

-- name: hosts_known
-- Those too that are away, and may come back: a host that sleeps, or is started on demand.
SELECT runtimes, labels, resources, allowed_images
FROM runners
WHERE last_seen_at > clock_timestamp() - interval '1 day'

-- name: batch_by_idempotency_key
SELECT id, body_sha256
FROM batches
WHERE project_id = :project_id AND idempotency_key = :idempotency_key

-- name: plan_for_many
-- A plan that was kept since the tables were small makes nested loops out of a large submission.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true)

-- name: executions_analyzed
SELECT CAST(reltuples AS bigint) AS number FROM pg_class WHERE oid = CAST('executions' AS regclass)

-- name: executions_analyze
ANALYZE executions

-- name: batch_insert
INSERT INTO batches (
    id, project_id, key_id, name, script, script_sha256, runtime, spec, env, metadata, single, total,
    shape, priority, parallel, max_fails, canary, idempotency_key, body_sha256
)
VALUES (
    :id, :project_id, :key_id, :label, :script, :script_sha256, :runtime, CAST(:spec AS jsonb), :env,
    CAST(:metadata AS jsonb), :single, :total, :shape, :priority, CAST(:parallel AS integer),
    CAST(:max_fails AS integer), CAST(:canary AS integer), CAST(:idempotency_key AS text), :body_sha256
)
ON CONFLICT (project_id, idempotency_key) DO NOTHING
RETURNING id

-- name: batch_for_items
SELECT spec, total, shape, priority
FROM batches
WHERE id = :id AND project_id = :project_id

-- name: blobs_unknown
SELECT asked.sha256, asked.size AS asked_size, known.size AS known_size
FROM unnest(CAST(:sha256 AS text[]), CAST(:sizes AS bigint[])) AS asked (sha256, size)
LEFT JOIN blobs AS known
    ON known.project_id = :project_id AND known.sha256 = asked.sha256 AND NOT known.missing
WHERE known.size IS DISTINCT FROM asked.size

-- name: executions_insert
INSERT INTO executions (id, batch_id, project_id, item_index, item, status, shape, priority)
SELECT page.id,
       :batch_id,
       :project_id,
       CAST(:first AS integer) + CAST(page.number AS integer) - 1,
       CAST(page.item AS jsonb),
       'pending',
       :shape,
       CAST(:priority AS integer)
FROM unnest(CAST(:ids AS text[]), CAST(:items AS text[])) WITH ORDINALITY AS page (id, item, number)
ON CONFLICT (batch_id, item_index) WHERE latest DO NOTHING

-- name: items_that_differ
SELECT CAST(:first AS integer) + CAST(page.number AS integer) - 1 AS item_index
FROM unnest(CAST(:items AS text[])) WITH ORDINALITY AS page (item, number)
LEFT JOIN executions AS stored
    ON stored.batch_id = :batch_id
        AND stored.latest
        AND stored.item_index = CAST(:first AS integer) + CAST(page.number AS integer) - 1
WHERE stored.item IS DISTINCT FROM CAST(page.item AS jsonb)
ORDER BY page.number
LIMIT 1

-- name: output_names_twice
SELECT item ->> 'output_name' AS output_name, min(item_index) AS first_index, max(item_index) AS last_index
FROM executions
WHERE batch_id = :batch_id AND latest
GROUP BY item ->> 'output_name'
HAVING count(*) > 1
ORDER BY min(item_index)
LIMIT 1

-- name: batch_received
UPDATE batches
SET received = received + :number
WHERE id = :id AND sealed_at IS NULL AND cancel_requested_at IS NULL
RETURNING received, total

-- name: batch_hide
-- A batch that is being deleted looks unsealed: no list shows it and nothing can be added to it.
UPDATE batches
SET sealed_at = NULL, cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
WHERE id = :id AND project_id = :project_id AND (ended_at IS NOT NULL OR sealed_at IS NULL)
RETURNING id

-- name: batch_delete_some
-- Removes some executions with all that hangs on them; answers the keys of their output objects. The batch's lock
-- keeps two deletions of one batch from meeting.
WITH owner AS MATERIALIZED (
    SELECT id FROM batches WHERE id = :batch_id FOR UPDATE
), doomed AS MATERIALIZED (
    SELECT executions.id
    FROM owner
    JOIN executions ON executions.batch_id = owner.id
    LIMIT :number
    FOR UPDATE OF executions
), gone_chunks AS (
    DELETE FROM log_chunks USING doomed WHERE log_chunks.execution_id = doomed.id
), gone_stdin AS (
    DELETE FROM stdin_chunks USING doomed WHERE stdin_chunks.execution_id = doomed.id
), gone_attempts AS (
    DELETE FROM attempts USING doomed WHERE attempts.execution_id = doomed.id RETURNING attempts.manifest
), gone AS (
    DELETE FROM executions USING doomed WHERE executions.id = doomed.id RETURNING executions.id
)
SELECT (SELECT count(*) FROM gone) AS number,
       (
           SELECT coalesce(array_agg(kept.object ->> 'key'), ARRAY[]::text[])
           FROM gone_attempts
           CROSS JOIN LATERAL jsonb_array_elements(gone_attempts.manifest -> 'objects') AS kept (object)
       ) AS keys

-- name: batch_delete
DELETE FROM batches WHERE id = :id

-- name: events_forget
DELETE FROM events WHERE project_id = :project_id AND batch_id = :batch_id

-- Executions, as they are read.

-- name: attempts_of
SELECT attempts.attempt,
       attempts.runner_id,
       runners.name AS runner,
       attempts.phase,
       attempts.claimed_at,
       attempts.started_at,
       attempts.ended_at,
       attempts.exit_code,
       attempts.failure,
       attempts.message,
       attempts.usage,
       attempts.log_bytes
FROM attempts
JOIN runners ON runners.id = attempts.runner_id
WHERE attempts.execution_id = :execution_id
ORDER BY attempts.attempt

-- name: executions_open
-- Each part is an index-only look at what is open; what has ended is never counted.
SELECT (SELECT count(*) FROM executions WHERE status = 'queued')
     + (SELECT count(*) FROM executions WHERE status = 'pending')
     + (SELECT count(*) FROM attempts WHERE live) AS number

-- name: stdin_add
INSERT INTO stdin_chunks (execution_id, seq, data, eof)
SELECT id, :seq, :data, :eof
FROM executions
WHERE id = :execution_id AND ended_at IS NULL
ON CONFLICT (execution_id, seq) DO NOTHING
RETURNING seq

-- name: stdin_state
SELECT executions.ended_at IS NOT NULL AS ended,
       batches.spec -> 'stdin' AS stdin,
       coalesce((SELECT max(seq) FROM stdin_chunks WHERE execution_id = executions.id), 0) AS last_seq,
       coalesce((SELECT bool_or(eof) FROM stdin_chunks WHERE execution_id = executions.id), false) AS closed
FROM executions
JOIN batches ON batches.id = executions.batch_id
WHERE executions.id = :execution_id

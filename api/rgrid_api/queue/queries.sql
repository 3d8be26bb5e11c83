-- Every change of an execution's state, and nothing else.
--
-- Who locks what, in which order, so that nobody ever waits in a ring:
--   1. batches, in the order of their ids. Finishing and claiming never wait for one (SKIP LOCKED): the promoter, which
--      comes by every second, does what they left.
--   2. attempts, in the order of their execution's id. Whoever changes a running execution holds its attempt first.
--   3. executions. Those that are not running are only ever picked with SKIP LOCKED.
-- Every transition names the state that it leaves: in its own WHERE, or where it locks the rows that it then finds by
-- id. There the state is not named twice: it would let the planner walk all of a partial index for each row, with a
-- plan that it made and kept when that index was nearly empty (measured: over 2 s instead of 50 ms).

-- name: batch_seal
-- The last item has arrived. Its shape's needs are kept beside its hash, for runners to be compared with.
WITH sealed AS (
    UPDATE batches
    SET sealed_at = clock_timestamp()
    WHERE id = :batch_id AND sealed_at IS NULL AND received = total
    RETURNING id, project_id, shape, runtime, total, spec
), kept AS (
    INSERT INTO shapes (shape, runtime, resources)
    SELECT shape, runtime, spec -> 'resources' FROM sealed
    ON CONFLICT (shape) DO NOTHING
)
SELECT project_id, total FROM sealed;

-- name: batches_lock
-- Waits. Whoever counts must do so in a later statement than this one: counts are of the statement's start.
SELECT id, project_id
FROM batches
WHERE id = ANY(CAST(:ids AS text[]))
ORDER BY id
FOR NO KEY UPDATE;

-- name: batches_due
-- Open batches with something to promote, to stop or to end. One look at an empty index when nothing is open.
SELECT b.id
FROM batches b
WHERE b.sealed_at IS NOT NULL
    AND b.ended_at IS NULL
    AND b.id > :after
    AND (
        EXISTS (SELECT FROM executions e WHERE e.batch_id = b.id AND e.status = 'pending')
        OR (
            (b.cancel_requested_at IS NOT NULL OR b.max_fails IS NOT NULL OR b.canary IS NOT NULL)
            AND EXISTS (SELECT FROM executions e WHERE e.batch_id = b.id AND e.latest AND e.status = 'queued')
        )
        OR NOT EXISTS (
            SELECT FROM executions e
            WHERE e.batch_id = b.id AND e.latest AND e.status IN ('blocked', 'pending', 'queued', 'running')
        )
    )
ORDER BY b.id
LIMIT :page;

-- name: promoter_turn
-- One promoter at a time in the whole grid; the others come by in a second.
SELECT pg_try_advisory_xact_lock(7379651427418472449);

-- name: promote
-- The truth about who may be queued. The batches are locked by an earlier statement of the same transaction.
--
-- Room: a batch with a cap may have that many queued or running; every batch may have :window queued. Canary: as long
-- as the first ones have not all succeeded, only they may start.
--
-- Rank: start-time fair queuing between projects (Goyal, Vin, Cheng 1996). A project's next item starts behind its
-- last one, and never before the earliest item that waits now: an idle project saves up no turns.
WITH RECURSIVE flows AS (
    (SELECT project_id, rank FROM executions WHERE status = 'queued' ORDER BY project_id, rank LIMIT 1)
    UNION ALL
    SELECT n.project_id, n.rank
    FROM flows f
    CROSS JOIN LATERAL (
        SELECT project_id, rank FROM executions
        WHERE status = 'queued' AND project_id > f.project_id
        ORDER BY project_id, rank
        LIMIT 1
    ) n
), room AS MATERIALIZED (
    SELECT
        b.id,
        b.project_id,
        least(:window - c.queued, b.parallel - c.queued - c.running) AS slots,
        CASE
            WHEN b.canary IS NULL OR NOT EXISTS (
                SELECT FROM executions e
                WHERE e.batch_id = b.id AND e.latest AND e.item_index < b.canary AND e.status <> 'succeeded'
            ) THEN b.total
            ELSE b.canary
        END AS below
    FROM batches b
    CROSS JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE e.status = 'queued') AS queued,
            count(*) FILTER (WHERE e.status = 'running') AS running
        FROM executions e
        WHERE e.batch_id = b.id AND e.latest AND e.status IN ('queued', 'running')
    ) c
    WHERE b.id = ANY(CAST(:ids AS text[]))
        AND b.sealed_at IS NOT NULL
        AND b.paused_at IS NULL
        AND b.cancel_requested_at IS NULL
), picked AS MATERIALIZED (
    SELECT e.id, r.project_id, row_number() OVER (PARTITION BY r.project_id ORDER BY r.id, e.item_index) AS nth
    FROM room r
    CROSS JOIN LATERAL (
        SELECT id, item_index FROM executions
        WHERE batch_id = r.id
            AND status = 'pending'
            AND item_index < r.below
            AND (not_before IS NULL OR not_before <= clock_timestamp())
        ORDER BY item_index
        LIMIT greatest(r.slots, 0)
        FOR NO KEY UPDATE SKIP LOCKED
    ) e
), bases AS MATERIALIZED (
    SELECT
        p.project_id,
        greatest(
            (SELECT min(rank) FROM flows),
            (SELECT max(rank) FROM executions WHERE status = 'queued' AND project_id = p.project_id),
            0
        ) AS rank
    FROM (SELECT DISTINCT project_id FROM picked) p
), moved AS (
    UPDATE executions e
    SET status = 'queued',
        rank = s.rank + p.nth,
        not_before = NULL,
        version = e.version + 1,
        updated_at = clock_timestamp()
    FROM picked p
    JOIN bases s USING (project_id)
    WHERE e.id = p.id
    RETURNING e.batch_id
)
SELECT batch_id, count(*) AS promoted FROM moved GROUP BY batch_id;

-- name: pass_on
-- A finished execution hands its place to the next of its batch, without counting; and a batch that has nothing
-- left is ended if :held says that an earlier statement of this transaction locked it.
WITH RECURSIVE flows AS (
    (SELECT project_id, rank FROM executions WHERE status = 'queued' ORDER BY project_id, rank LIMIT 1)
    UNION ALL
    SELECT n.project_id, n.rank
    FROM flows f
    CROSS JOIN LATERAL (
        SELECT project_id, rank FROM executions
        WHERE status = 'queued' AND project_id > f.project_id
        ORDER BY project_id, rank
        LIMIT 1
    ) n
), freed AS (
    SELECT id, slots
    FROM unnest(CAST(:ids AS text[]), CAST(:slots AS integer[])) AS f (id, slots)
), picked AS MATERIALIZED (
    SELECT e.id, b.project_id, row_number() OVER (PARTITION BY b.project_id ORDER BY b.id, e.item_index) AS nth
    FROM freed f
    JOIN batches b ON b.id = f.id AND b.paused_at IS NULL AND b.cancel_requested_at IS NULL
    CROSS JOIN LATERAL (
        SELECT id, item_index FROM executions
        WHERE batch_id = b.id
            AND status = 'pending'
            AND (not_before IS NULL OR not_before <= clock_timestamp())
            AND (
                b.canary IS NULL
                OR item_index < b.canary
                OR NOT EXISTS (
                    SELECT FROM executions c
                    WHERE c.batch_id = b.id AND c.latest AND c.item_index < b.canary AND c.status <> 'succeeded'
                )
            )
        ORDER BY item_index
        LIMIT f.slots
        FOR NO KEY UPDATE SKIP LOCKED
    ) e
), bases AS MATERIALIZED (
    SELECT
        p.project_id,
        greatest(
            (SELECT min(rank) FROM flows),
            (SELECT max(rank) FROM executions WHERE status = 'queued' AND project_id = p.project_id),
            0
        ) AS rank
    FROM (SELECT DISTINCT project_id FROM picked) p
), moved AS (
    UPDATE executions e
    SET status = 'queued',
        rank = s.rank + p.nth,
        not_before = NULL,
        version = e.version + 1,
        updated_at = clock_timestamp()
    FROM picked p
    JOIN bases s USING (project_id)
    WHERE e.id = p.id
    RETURNING e.batch_id
), ended AS (
    UPDATE batches b
    SET ended_at = clock_timestamp(), started_at = coalesce(b.started_at, clock_timestamp())
    WHERE b.id = ANY(CAST(:held AS text[]))
        AND b.ended_at IS NULL
        AND (b.sealed_at IS NOT NULL OR b.cancel_requested_at IS NOT NULL)
        AND NOT EXISTS (
            SELECT FROM executions e
            WHERE e.batch_id = b.id AND e.latest AND e.status IN ('blocked', 'pending', 'queued', 'running')
        )
    RETURNING b.id, b.project_id
)
SELECT m.batch_id AS id, NULL AS project_id, count(*) AS promoted FROM moved m GROUP BY m.batch_id
UNION ALL
SELECT id, project_id, 0 FROM ended;

-- name: batches_stop
-- Cancels what has not started of batches that are to start nothing more, page by page.
WITH halted AS MATERIALIZED (
    SELECT b.id, CASE
        WHEN b.cancel_requested_at IS NOT NULL THEN 'Cancelled before it started.'
        WHEN c.failed >= b.max_fails THEN format('Not started: %s of the batch had failed (--max-fails).', c.failed)
        WHEN c.canary_lost THEN format('Not started: not all of the first %s succeeded (--canary).', b.canary)
    END AS reason
    FROM batches b
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN b.max_fails IS NOT NULL THEN (
                SELECT count(*) FROM executions e
                WHERE e.batch_id = b.id AND e.latest AND e.status IN ('failed', 'timed_out')
            ) END AS failed,
            b.canary IS NOT NULL AND EXISTS (
                SELECT FROM executions e
                WHERE e.batch_id = b.id
                    AND e.latest
                    AND e.item_index < b.canary
                    AND e.status IN ('failed', 'timed_out', 'cancelled', 'skipped')
            ) AS canary_lost
    ) c
    WHERE b.id = ANY(CAST(:ids AS text[])) AND b.ended_at IS NULL
), picked AS MATERIALIZED (
    SELECT e.id, h.reason
    FROM halted h
    CROSS JOIN LATERAL (
        SELECT id FROM executions
        WHERE batch_id = h.id AND latest AND status IN ('blocked', 'pending', 'queued')
        LIMIT :page
        FOR NO KEY UPDATE SKIP LOCKED
    ) e
    WHERE h.reason IS NOT NULL
), moved AS (
    UPDATE executions e
    SET status = 'cancelled',
        failure = 'cancelled',
        message = p.reason,
        ended_at = clock_timestamp(),
        version = e.version + 1,
        updated_at = clock_timestamp()
    FROM picked p
    WHERE e.id = p.id
    RETURNING e.batch_id
)
SELECT batch_id, count(*) AS stopped FROM moved GROUP BY batch_id;

-- name: runner_seen
-- A poll's first half: the runner lives, exactly the attempts that it lists are renewed, and what stands queued.
-- The runner's row stays locked to the end of the transaction: its claims come one after another.
-- Distinct shapes are found by skipping through the index, one probe for each.
WITH RECURSIVE seen AS (
    UPDATE runners
    SET last_seen_at = clock_timestamp(), draining = coalesce(CAST(:draining AS boolean), draining)
    WHERE id = :runner_id AND token_id = :token_id
    RETURNING labels, runtimes, allowed_images, resources
), owned AS MATERIALIZED (
    SELECT a.execution_id, a.attempt, e.cancel_requested_at IS NOT NULL AS cancelled
    FROM unnest(CAST(:executions AS text[]), CAST(:attempts AS integer[])) AS l (execution_id, attempt)
    JOIN attempts a USING (execution_id, attempt)
    JOIN executions e ON e.id = a.execution_id
    WHERE a.live AND a.runner_id = :runner_id
    ORDER BY a.execution_id
    FOR NO KEY UPDATE OF a
), renewed AS (
    UPDATE attempts a
    SET lease_expires_at = clock_timestamp() + make_interval(secs => CAST(:lease_s AS float8))
    FROM owned o
    WHERE :renew AND a.execution_id = o.execution_id AND a.attempt = o.attempt
), open AS (
    (SELECT shape FROM executions WHERE status = 'queued' ORDER BY shape LIMIT 1)
    UNION ALL
    SELECT n.shape
    FROM open o
    CROSS JOIN LATERAL (
        SELECT shape FROM executions WHERE status = 'queued' AND shape > o.shape ORDER BY shape LIMIT 1
    ) n
)
SELECT
    s.labels,
    s.runtimes,
    s.allowed_images,
    s.resources,
    (SELECT coalesce(array_agg(execution_id), '{}') FROM owned) AS executions,
    (SELECT coalesce(array_agg(attempt), '{}') FROM owned) AS attempts,
    (SELECT coalesce(array_agg(cancelled), '{}') FROM owned) AS cancelled,
    CASE WHEN :claiming THEN (SELECT coalesce(array_agg(shape), '{}') FROM open) ELSE '{}' END AS shapes
FROM seen s;

-- name: shapes_by_id
SELECT shape, runtime, resources FROM shapes WHERE shape = ANY(CAST(:ids AS text[]));

-- name: claim
-- Locks rows and changes their state in one statement, filling what the runner has free: best first, each row takes
-- what its shape needs from what is left, a row that does not fit is passed over. :mosts says how many of a shape fit
-- at all; no more are locked. A request that was answered before gets the same attempts again, and no more.
WITH RECURSIVE kept AS MATERIALIZED (
    SELECT execution_id, attempt
    FROM attempts
    WHERE live AND runner_id = :runner_id AND claim_request_id = :request_id
    ORDER BY execution_id
    FOR NO KEY UPDATE
), renewed AS (
    UPDATE attempts a
    SET lease_expires_at = clock_timestamp() + make_interval(secs => CAST(:lease_s AS float8))
    FROM kept k
    WHERE a.execution_id = k.execution_id AND a.attempt = k.attempt
), locked AS MATERIALIZED (
    SELECT e.id, e.priority, e.rank, o.cpu, o.memory, o.disk, o.gpus
    FROM unnest(
        CAST(:shapes AS text[]), CAST(:cpus AS bigint[]), CAST(:memories AS bigint[]), CAST(:disks AS bigint[]),
        CAST(:gpuses AS bigint[]), CAST(:mosts AS bigint[])
    ) AS o (shape, cpu, memory, disk, gpus, most)
    CROSS JOIN LATERAL (
        SELECT id, priority, rank FROM executions
        WHERE status = 'queued' AND shape = o.shape
        ORDER BY priority DESC, rank, id
        LIMIT o.most
        FOR UPDATE SKIP LOCKED
    ) e
    WHERE NOT EXISTS (SELECT FROM kept)
), ranked AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY priority DESC, rank, id) AS n, id, cpu, memory, disk, gpus FROM locked
), fit AS (
    SELECT
        CAST(0 AS bigint) AS n,
        CAST(NULL AS text) AS id,
        false AS taken,
        CAST(:slots AS bigint) AS slots,
        CAST(:cpu AS bigint) AS cpu,
        CAST(:memory AS bigint) AS memory,
        CAST(:disk AS bigint) AS disk,
        CAST(:gpus AS bigint) AS gpus
    UNION ALL
    SELECT
        r.n,
        r.id,
        t.taken,
        f.slots - CASE WHEN t.taken THEN 1 ELSE 0 END,
        f.cpu - CASE WHEN t.taken THEN r.cpu ELSE 0 END,
        f.memory - CASE WHEN t.taken THEN r.memory ELSE 0 END,
        f.disk - CASE WHEN t.taken THEN r.disk ELSE 0 END,
        f.gpus - CASE WHEN t.taken THEN r.gpus ELSE 0 END
    FROM fit f
    JOIN ranked r ON r.n = f.n + 1
    CROSS JOIN LATERAL (
        SELECT
            f.slots > 0 AND r.cpu <= f.cpu AND r.memory <= f.memory AND r.disk <= f.disk AND r.gpus <= f.gpus AS taken
    ) t
), claimed AS (
    UPDATE executions e
    SET status = 'running',
        attempt = e.attempt + 1,
        version = e.version + 1,
        updated_at = clock_timestamp()
    FROM fit f
    WHERE f.taken AND e.id = f.id
    RETURNING e.id, e.attempt, e.batch_id, e.project_id, e.item_index, e.item
), opened AS (
    INSERT INTO attempts (execution_id, attempt, runner_id, claim_request_id, claimed_at, lease_expires_at)
    SELECT
        id,
        attempt,
        :runner_id,
        :request_id,
        clock_timestamp(),
        clock_timestamp() + make_interval(secs => CAST(:lease_s AS float8))
    FROM claimed
), begun AS (
    UPDATE batches
    SET started_at = clock_timestamp()
    WHERE id IN (
        SELECT id FROM batches
        WHERE id IN (SELECT batch_id FROM claimed) AND started_at IS NULL
        FOR NO KEY UPDATE SKIP LOCKED
    )
)
SELECT
    c.id,
    c.attempt,
    c.batch_id,
    c.project_id,
    c.item_index,
    c.item,
    true AS fresh,
    (SELECT count(*) FROM locked) - (SELECT count(*) FROM claimed) AS passed_over
FROM claimed c
UNION ALL
SELECT e.id, e.attempt, e.batch_id, e.project_id, e.item_index, e.item, false, 0
FROM kept k
JOIN executions e ON e.id = k.execution_id;

-- name: attempts_standing
-- What decides the end of these attempts. Nothing but their own end changes the counters while they are live.
SELECT
    a.execution_id,
    a.attempt,
    a.runner_id,
    a.live,
    a.usage IS NOT NULL AS reported,
    a.log_seq,
    e.batch_id,
    e.project_id,
    e.user_retries,
    e.infra_retries,
    b.retry,
    b.max_fails IS NOT NULL OR b.canary IS NOT NULL AS counted,
    clock_timestamp() AS now
FROM unnest(CAST(:executions AS text[]), CAST(:attempts AS integer[])) AS l (execution_id, attempt)
JOIN attempts a USING (execution_id, attempt)
JOIN executions e ON e.id = a.execution_id
JOIN batches b ON b.id = e.batch_id;

-- name: attempts_expired
SELECT a.execution_id, a.attempt, r.name AS runner
FROM attempts a
JOIN runners r ON r.id = a.runner_id
WHERE a.live AND a.lease_expires_at < clock_timestamp()
ORDER BY a.lease_expires_at
LIMIT :page;

-- name: finish
-- Ends attempts that are live, on this runner (or on any, for the sweeper: then only if the lease is over), and of a
-- running execution. A cancelled execution ends as cancelled whatever its script came to.
WITH reported AS (
    SELECT *
    FROM unnest(
        CAST(:executions AS text[]), CAST(:attempts AS integer[]), CAST(:statuses AS text[]),
        CAST(:failures AS text[]), CAST(:exit_codes AS integer[]), CAST(:signals AS integer[]),
        CAST(:messages AS text[]), CAST(:starts AS timestamptz[]), CAST(:not_befores AS timestamptz[]),
        CAST(:transients AS boolean[]), CAST(:usages AS text[]), CAST(:manifests AS text[]), CAST(:streams AS text[]),
        CAST(:layers AS text[]), CAST(:files AS integer[]), CAST(:bytes AS bigint[])
    ) AS r (
        execution_id, attempt, status, failure, exit_code, signal, message, started_at, not_before, transient, usage,
        manifest, streams, layer, files, bytes
    )
), locked AS MATERIALIZED (
    SELECT a.execution_id, a.attempt, e.batch_id, e.cancel_requested_at IS NOT NULL AS cancelled
    FROM reported r
    JOIN attempts a USING (execution_id, attempt)
    JOIN executions e ON e.id = a.execution_id
    WHERE a.live
        AND CASE
            WHEN CAST(:runner_id AS text) IS NULL THEN a.lease_expires_at < clock_timestamp()
            ELSE a.runner_id = :runner_id
        END
        AND e.status = 'running'
        AND e.attempt = a.attempt
    ORDER BY a.execution_id
    FOR NO KEY UPDATE OF a, e
), held AS MATERIALIZED (
    SELECT id FROM batches WHERE id IN (SELECT batch_id FROM locked) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), ends AS MATERIALIZED (
    SELECT
        r.*,
        l.cancelled,
        CASE WHEN l.cancelled THEN 'cancelled' ELSE r.status END AS new_status,
        CASE WHEN l.cancelled THEN 'cancelled' ELSE r.failure END AS new_failure
    FROM locked l
    JOIN reported r USING (execution_id, attempt)
), closed AS (
    UPDATE attempts a
    SET live = false,
        ended_at = clock_timestamp(),
        started_at = coalesce(a.started_at, n.started_at),
        exit_code = n.exit_code,
        signal = n.signal,
        failure = n.new_failure,
        message = n.message,
        usage = CAST(n.usage AS jsonb),
        manifest = CAST(n.manifest AS jsonb),
        streams = CAST(n.streams AS jsonb),
        layer = n.layer
    FROM ends n
    WHERE a.execution_id = n.execution_id AND a.attempt = n.attempt
), moved AS (
    UPDATE executions e
    SET status = n.new_status,
        failure = CASE WHEN n.new_status = 'pending' THEN NULL ELSE n.new_failure END,
        exit_code = CASE WHEN n.new_status = 'pending' THEN NULL ELSE n.exit_code END,
        message = CASE WHEN n.cancelled AND n.message = '' THEN e.message ELSE n.message END,
        not_before = CASE WHEN n.new_status = 'pending' THEN n.not_before END,
        ended_at = CASE WHEN n.new_status = 'pending' THEN NULL ELSE clock_timestamp() END,
        started_at = coalesce(e.started_at, n.started_at),
        infra_retries = e.infra_retries + CASE WHEN n.new_status = 'pending' AND n.transient THEN 1 ELSE 0 END,
        user_retries = e.user_retries + CASE WHEN n.new_status = 'pending' AND NOT n.transient THEN 1 ELSE 0 END,
        output_files = n.files,
        output_bytes = n.bytes,
        version = e.version + 1,
        updated_at = clock_timestamp()
    FROM ends n
    WHERE e.id = n.execution_id AND e.status = 'running' AND e.attempt = n.attempt
    RETURNING e.id, e.attempt, e.batch_id, e.project_id, e.item_index, e.status, e.failure, e.exit_code
)
SELECT m.*, m.batch_id IN (SELECT id FROM held) AS held FROM moved m;

-- name: attempts_phase
-- The phase moves as the runner says; the start of the script is kept once.
WITH reported AS (
    SELECT *
    FROM unnest(
        CAST(:executions AS text[]), CAST(:attempts AS integer[]), CAST(:phases AS text[]), CAST(:starts AS timestamptz[])
    ) AS r (execution_id, attempt, phase, started_at)
), locked AS MATERIALIZED (
    SELECT r.*
    FROM reported r
    JOIN attempts a USING (execution_id, attempt)
    WHERE a.live
        AND a.runner_id = :runner_id
        AND (a.phase <> r.phase OR (a.started_at IS NULL AND r.started_at IS NOT NULL))
    ORDER BY a.execution_id
    FOR NO KEY UPDATE OF a
), moved AS (
    UPDATE attempts a
    SET phase = l.phase, started_at = coalesce(a.started_at, l.started_at)
    FROM locked l
    WHERE a.execution_id = l.execution_id AND a.attempt = l.attempt
)
UPDATE executions e
SET started_at = coalesce(e.started_at, l.started_at), version = e.version + 1, updated_at = clock_timestamp()
FROM locked l
WHERE e.id = l.execution_id AND e.status = 'running' AND e.attempt = l.attempt
RETURNING e.id, e.batch_id;

-- name: batch_cancel
UPDATE batches
SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
WHERE id = :batch_id AND ended_at IS NULL
RETURNING
    project_id,
    (
        SELECT count(*) FROM executions e
        WHERE e.batch_id = batches.id
            AND e.latest
            AND e.status IN ('blocked', 'pending', 'queued', 'running')
            AND e.cancel_requested_at IS NULL
    ) AS open;

-- name: cancel_running
-- Tells runners to stop; the attempt's end makes it final.
WITH locked AS MATERIALIZED (
    SELECT a.execution_id, a.attempt, a.runner_id
    FROM executions e
    JOIN attempts a ON a.execution_id = e.id AND a.attempt = e.attempt
    WHERE e.batch_id = :batch_id
        AND e.latest
        AND e.status = 'running'
        AND (CAST(:indexes AS integer[]) IS NULL OR e.item_index = ANY(CAST(:indexes AS integer[])))
        AND a.live
    ORDER BY a.execution_id
    FOR NO KEY UPDATE OF a
)
UPDATE executions e
SET cancel_requested_at = clock_timestamp(),
    message = :reason,
    version = e.version + 1,
    updated_at = clock_timestamp()
FROM locked l
WHERE e.id = l.execution_id AND e.status = 'running' AND e.attempt = l.attempt AND e.cancel_requested_at IS NULL
RETURNING e.id, l.runner_id;

-- name: cancel_waiting
-- What has not started never will.
WITH picked AS MATERIALIZED (
    SELECT id FROM executions
    WHERE batch_id = :batch_id
        AND latest
        AND status IN ('blocked', 'pending', 'queued')
        AND (CAST(:indexes AS integer[]) IS NULL OR item_index = ANY(CAST(:indexes AS integer[])))
    LIMIT :page
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE executions e
SET status = 'cancelled',
    failure = 'cancelled',
    message = :reason,
    cancel_requested_at = clock_timestamp(),
    ended_at = clock_timestamp(),
    version = e.version + 1,
    updated_at = clock_timestamp()
FROM picked p
WHERE e.id = p.id
RETURNING e.id;

-- name: waiting_left
SELECT EXISTS (
    SELECT FROM executions
    WHERE batch_id = :batch_id
        AND latest
        AND status IN ('blocked', 'pending', 'queued')
        AND (CAST(:indexes AS integer[]) IS NULL OR item_index = ANY(CAST(:indexes AS integer[])))
);

-- name: retryable
SELECT id
FROM executions
WHERE batch_id = :batch_id
    AND latest
    AND status IN ('succeeded', 'failed', 'timed_out', 'cancelled', 'skipped')
    AND (NOT :failed OR status <> 'succeeded')
    AND (CAST(:indexes AS integer[]) IS NULL OR item_index = ANY(CAST(:indexes AS integer[])))
    AND item_index > :after
ORDER BY item_index
LIMIT :page
FOR NO KEY UPDATE;

-- name: batch_reopen
UPDATE batches SET ended_at = NULL, cancel_requested_at = NULL WHERE id = :batch_id RETURNING project_id;

-- name: retry
-- A retry is a new execution of the same item; the old one stands, no longer the latest.
WITH asked AS (
    SELECT old_id, new_id FROM unnest(CAST(:old_ids AS text[]), CAST(:new_ids AS text[])) AS a (old_id, new_id)
), replaced AS (
    UPDATE executions e
    SET latest = false, version = e.version + 1, updated_at = clock_timestamp()
    FROM asked a
    WHERE e.id = a.old_id AND e.ended_at IS NOT NULL
    RETURNING e.id, a.new_id, e.batch_id, e.project_id, e.item_index, e.item, e.shape, e.priority
)
INSERT INTO executions (id, batch_id, project_id, item_index, item, status, shape, priority, retry_of)
SELECT new_id, batch_id, project_id, item_index, item, 'pending', shape, priority, id
FROM replaced
RETURNING id, item_index;

-- name: database_started
SELECT pg_postmaster_start_time();

-- name: execution_place
SELECT batch_id, item_index FROM executions WHERE id = :execution_id AND latest;

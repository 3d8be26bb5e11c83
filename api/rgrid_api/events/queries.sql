-- name: events_after
-- A transaction's events become visible when it commits, later ones perhaps before. Only what lies below the oldest
-- transaction that may still commit is settled: nothing can appear before it any more.
SELECT
    id,
    CAST(xid AS text) AS xid,
    kind,
    at,
    batch_id,
    execution_id,
    data,
    xid < pg_snapshot_xmin(pg_current_snapshot()) AS settled
FROM events
WHERE project_id = :project_id
  AND (xid, id) > (CAST(CAST(:xid AS text) AS xid8), CAST(:id AS bigint))
  AND (CAST(:batch_id AS text) IS NULL OR batch_id = CAST(:batch_id AS text))
  AND (CAST(:execution_id AS text) IS NULL OR execution_id = CAST(:execution_id AS text))
  AND (CAST(:kinds AS text[]) IS NULL OR kind = ANY (CAST(:kinds AS text[])))
-- The table's columns: the answer's xid is text, and sorts as text does.
ORDER BY events.xid, events.id
LIMIT :most;

-- name: events_now
SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS xid, clock_timestamp() AS now;

-- name: follow_clock
SELECT clock_timestamp() AS now;

-- name: follow_items
SELECT item_index, id, version, status, updated_at
FROM executions
WHERE batch_id = :batch_id AND latest AND item_index > :after
ORDER BY item_index
LIMIT :most;

-- name: follow_changes
SELECT item_index, id, version, status, updated_at
FROM executions
WHERE batch_id = :batch_id AND latest AND (updated_at, id) > (:since, CAST(:after AS text))
ORDER BY updated_at, id
LIMIT :most;

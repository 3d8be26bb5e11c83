-- name: outputs_of
SELECT e.id AS execution_id, e.project_id, e.batch_id, e.item_index, e.item ->> 'output_name' AS output_name,
       e.attempt, a.manifest
FROM executions e
LEFT JOIN attempts a ON a.execution_id = e.id AND a.attempt = e.attempt
WHERE e.id = ANY (CAST(:executions AS text[])) AND e.ended_at IS NOT NULL
ORDER BY e.item_index, e.id;

-- name: outputs_page
SELECT e.id AS execution_id, e.project_id, e.batch_id, e.item_index, e.item ->> 'output_name' AS output_name,
       e.attempt, a.manifest
FROM executions e
LEFT JOIN attempts a ON a.execution_id = e.id AND a.attempt = e.attempt
WHERE e.batch_id = :batch_id
  AND e.latest
  AND e.ended_at IS NOT NULL
  AND e.item_index > :after
  AND (
      CAST(:lows AS integer[]) IS NULL
      OR EXISTS (
          SELECT FROM unnest(CAST(:lows AS integer[]), CAST(:highs AS integer[])) AS r (low, high)
          WHERE e.item_index BETWEEN r.low AND r.high
      )
  )
ORDER BY e.item_index
LIMIT :most;

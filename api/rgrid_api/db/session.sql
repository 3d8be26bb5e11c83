-- name: tell
SELECT pg_notify(:channel, :payload);

-- name: tell_with_events
WITH written AS (
    INSERT INTO events (kind, project_id, batch_id, execution_id, data)
    SELECT kind, project_id, batch_id, execution_id, CAST(data AS jsonb)
    FROM unnest(
        CAST(:kinds AS text[]), CAST(:projects AS text[]), CAST(:batches AS text[]), CAST(:executions AS text[]),
        CAST(:data AS text[])
    ) WITH ORDINALITY AS row (kind, project_id, batch_id, execution_id, data, n)
    ORDER BY n
)
SELECT pg_notify(:channel, :payload);

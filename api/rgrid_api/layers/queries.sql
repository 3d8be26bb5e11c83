-- name: layer_find
-- Known from the first question on. Leave to build goes to who asks first, until the lease ends; whoever has it keeps
-- it by asking again. No row: the key is of another project.
INSERT INTO layers AS l (key, project_id, lock, interpreter, builder_id, building_until)
VALUES (
    :key, nullif(:project_id, ''), CAST(:lock AS jsonb), :interpreter,
    CASE WHEN CAST(:share AS boolean) THEN CAST(:runner_id AS text) END,
    clock_timestamp() + make_interval(secs => CAST(:lease_s AS float8))
)
ON CONFLICT (key) DO UPDATE
SET last_used_at = clock_timestamp(),
    builder_id = CASE
        WHEN l.object_key IS NOT NULL THEN NULL
        WHEN NOT CAST(:share AS boolean) THEN l.builder_id
        WHEN l.builder_id IS NULL OR l.building_until < clock_timestamp() THEN excluded.builder_id
        ELSE l.builder_id
    END,
    building_until = CASE
        WHEN l.object_key IS NOT NULL THEN NULL
        WHEN NOT CAST(:share AS boolean) THEN l.building_until
        WHEN l.builder_id IS NULL OR l.building_until < clock_timestamp() OR l.builder_id = excluded.builder_id
            THEN excluded.building_until
        ELSE l.building_until
    END
WHERE l.project_id IS NOT DISTINCT FROM excluded.project_id
RETURNING object_key, sha256, size, unpacked, coalesce(builder_id = :runner_id, false) AS mine;

-- name: layer_project_served
SELECT EXISTS (
    SELECT FROM attempts a
    JOIN executions e ON e.id = a.execution_id
    WHERE a.runner_id = :runner_id AND a.live AND e.project_id = :project_id
) AS served;

-- name: layer_builder
SELECT coalesce(project_id, '') AS project_id, object_key, builder_id IS NOT DISTINCT FROM :runner_id AS mine
FROM layers
WHERE key = :key;

-- name: layer_upload_open
INSERT INTO layer_uploads (object_key, key, runner_id, size, s3_upload_id)
VALUES (:object_key, :key, :runner_id, :size, :s3_upload_id);

-- name: layer_upload
SELECT size, s3_upload_id FROM layer_uploads
WHERE object_key = :object_key AND key = :key AND runner_id = :runner_id;

-- name: layer_publish
-- The first archive stays. Repeating it is harmless.
WITH closed AS (
    DELETE FROM layer_uploads WHERE object_key = :object_key
), published AS (
    UPDATE layers
    SET object_key = :object_key, sha256 = :sha256, size = :size, unpacked = :unpacked,
        published_at = clock_timestamp(), builder_id = NULL, building_until = NULL
    WHERE key = :key AND object_key IS NULL
    RETURNING key
)
SELECT EXISTS (SELECT FROM published) AS accepted;

-- name: layer_is_published
SELECT EXISTS (SELECT FROM layers WHERE key = :key AND object_key = :object_key) AS accepted;

-- name: layer_refuse
UPDATE layers l
SET object_key = NULL, sha256 = NULL, size = NULL, unpacked = NULL, published_at = NULL
FROM (SELECT key, object_key FROM layers WHERE key = :key AND sha256 = :sha256 FOR UPDATE) AS old
WHERE l.key = old.key
RETURNING old.object_key;

-- name: layer_give_up
UPDATE layers SET builder_id = NULL, building_until = NULL WHERE key = :key AND builder_id = :runner_id;

-- name: layer_uploads_abandoned
DELETE FROM layer_uploads
WHERE object_key IN (
    SELECT object_key FROM layer_uploads
    WHERE created_at < clock_timestamp() - make_interval(secs => CAST(:older_than_s AS float8))
    ORDER BY created_at
    LIMIT :most
    FOR UPDATE SKIP LOCKED
)
RETURNING object_key, s3_upload_id;

-- name: layer_archives_unused
-- What is known of a layer stays, for executions that ran on it are shown with their packages.
UPDATE layers l
SET object_key = NULL, sha256 = NULL, size = NULL, unpacked = NULL, published_at = NULL
FROM (
    SELECT key, object_key FROM layers
    WHERE object_key IS NOT NULL
      AND last_used_at < clock_timestamp() - make_interval(secs => CAST(:older_than_s AS float8))
    ORDER BY last_used_at
    LIMIT :most
    FOR UPDATE SKIP LOCKED
) AS old
WHERE l.key = old.key
RETURNING old.object_key;

-- name: layer_lock
-- What the execution's latest attempt that had a layer was given.
SELECT l.lock, l.project_id IS NULL OR l.project_id = e.project_id AS readable
FROM executions e
JOIN attempts a ON a.execution_id = e.id
JOIN layers l ON l.key = a.layer
WHERE e.id = :execution_id
ORDER BY a.attempt DESC
LIMIT 1;

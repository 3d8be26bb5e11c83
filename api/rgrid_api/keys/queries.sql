-- Keys, runner tokens and projects.

-- name: key_by_hash
SELECT id,
       project_id,
       revoked_at IS NOT NULL AS revoked,
       CAST(extract(epoch FROM expires_at - clock_timestamp()) AS float8) AS left_s,
       (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '60 seconds') AS note_use
FROM api_keys
WHERE hash = :hash

-- name: key_used
UPDATE api_keys
SET last_used_at = clock_timestamp()
WHERE id = :id AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '60 seconds')

-- name: token_by_hash
SELECT id, revoked_at IS NOT NULL AS revoked
FROM runner_tokens
WHERE hash = :hash

-- name: project_ensure
INSERT INTO projects (id, name)
VALUES (:id, :label)
ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING id

-- name: key_ensure
INSERT INTO api_keys (id, project_id, name, prefix, hash)
VALUES (:id, :project_id, :label, :prefix, :hash)
ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash
RETURNING id, project_id

-- name: token_ensure
INSERT INTO runner_tokens (id, name, hash)
VALUES (:id, :label, :hash)
ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash
RETURNING id

-- name: key_insert
INSERT INTO api_keys (id, project_id, name, prefix, hash, expires_at)
VALUES (
    :id, :project_id, :label, :prefix, :hash,
    clock_timestamp() + make_interval(secs => CAST(:expires_in_s AS float8))
)
RETURNING id, name, prefix, created_at, last_used_at, expires_at, revoked_at

-- name: keys_of_project
SELECT id, name, prefix, created_at, last_used_at, expires_at, revoked_at
FROM api_keys
WHERE project_id = :project_id
ORDER BY id

-- name: key_revoke
UPDATE api_keys
SET revoked_at = coalesce(revoked_at, clock_timestamp())
WHERE project_id = :project_id AND id = :id
RETURNING id

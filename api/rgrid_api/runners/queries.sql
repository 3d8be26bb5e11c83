-- name: runner_register
-- A runner keeps its id as long as it comes with the same token.
INSERT INTO runners (
    id, token_id, name, backend, version, slots, labels, runtimes, images, allowed_images, resources
)
VALUES (
    :id, :token_id, :label, :backend, :version, :slots, CAST(:labels AS jsonb), CAST(:runtimes AS jsonb),
    CAST(:images AS jsonb), CAST(:allowed_images AS jsonb), CAST(:resources AS jsonb)
)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name,
    backend = excluded.backend,
    version = excluded.version,
    slots = excluded.slots,
    labels = excluded.labels,
    runtimes = excluded.runtimes,
    images = excluded.images,
    allowed_images = excluded.allowed_images,
    resources = excluded.resources,
    draining = false,
    registered_at = clock_timestamp(),
    last_seen_at = clock_timestamp()
WHERE runners.token_id = excluded.token_id
RETURNING id;

-- name: runner_token_of
SELECT token_id FROM runners WHERE id = :runner_id;

-- name: runners_listed
SELECT
    r.id,
    r.name,
    r.backend,
    r.version,
    r.slots,
    r.labels,
    r.runtimes,
    r.resources,
    r.draining,
    r.registered_at,
    r.last_seen_at,
    r.last_seen_at > clock_timestamp() - make_interval(secs => CAST(:lease_s AS float8)) AS online,
    (SELECT count(*) FROM attempts a WHERE a.runner_id = r.id AND a.live) AS busy
FROM runners r
WHERE r.last_seen_at > clock_timestamp() - interval '7 days'
ORDER BY r.name, r.id;

-- name: runtimes_known
-- Those too of runners that are away, and may come back.
SELECT
    runtimes,
    images,
    allowed_images,
    NOT draining AND last_seen_at > clock_timestamp() - make_interval(secs => CAST(:lease_s AS float8)) AS online
FROM runners
WHERE last_seen_at > clock_timestamp() - interval '1 day';

-- name: claimed_batches
SELECT id, project_id, single, spec, env FROM batches WHERE id = ANY(CAST(:ids AS text[]));

-- name: claimed_blobs
SELECT b.project_id, b.sha256, b.size, b.object_key, b.object_offset
FROM unnest(CAST(:projects AS text[]), CAST(:hashes AS text[])) AS w (project_id, sha256)
JOIN blobs b ON b.project_id = w.project_id AND b.sha256 = w.sha256 AND NOT b.missing;

-- name: stdin_after
SELECT seq, data, eof
FROM stdin_chunks
WHERE execution_id = :execution_id AND seq > :after
ORDER BY seq
LIMIT :page;

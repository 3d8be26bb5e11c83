-- What the server says about itself.

-- name: ping
SELECT 1

-- name: project_name
SELECT name FROM projects WHERE id = :id

-- Keep what sessions count that are not kept themselves, as rows of `session_metrics`, of two of one session the one of
-- the higher version; says of each whether it counts: not if a tombstone is there.
CREATE FUNCTION {schema}.record_metrics(metrics json)
 RETURNS TABLE(id uuid, counted boolean)
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
DECLARE
  ids uuid[] := ARRAY(SELECT m.session_id FROM json_to_recordset(metrics) AS m(session_id uuid) ORDER BY 1);
  absent uuid[];
BEGIN
  -- A row holds the slot of each until its metrics are there, so that nobody stores or deletes it in between.
  WITH taken AS (
    INSERT INTO sessions (
      id, type, assets, tags, created_at, expires_at, last_accessed_at, version, head,
      total_queries, cache_hits, state_bytes, history_bytes, writers
    )
    SELECT i.id, '', '[]', '[]', 0, 0, 0, 0, '', 0, 0, 0, 0, '' FROM unnest(ids) AS i(id)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
  )
  SELECT coalesce(array_agg(t.id), '{}') INTO absent FROM taken AS t;
  INSERT INTO session_metrics AS kept
  SELECT m.* FROM json_populate_recordset(NULL::session_metrics, metrics) AS m
  WHERE m.session_id = ANY (absent)
    AND NOT EXISTS (SELECT FROM session_tombstones AS t WHERE t.session_id = m.session_id)
  ON CONFLICT (session_id) DO UPDATE SET
    user_id = excluded.user_id, type = excluded.type, assets = excluded.assets, tags = excluded.tags,
    created_at = excluded.created_at, expires_at = excluded.expires_at, last_accessed_at = excluded.last_accessed_at,
    archived_at = excluded.archived_at, version = excluded.version, total_queries = excluded.total_queries,
    cache_hits = excluded.cache_hits, day = excluded.day, counts = excluded.counts
  WHERE kept.version < excluded.version;
  DELETE FROM sessions AS s WHERE s.id = ANY (absent);
  RETURN QUERY
  SELECT i.id, t.session_id IS NULL
  FROM unnest(ids) AS i(id) LEFT JOIN session_tombstones AS t ON t.session_id = i.id;
END
$function$

-- Keep what those of the sessions count that are archived, in place of what they counted before: what `counted` says by
-- id where it is given, else what is measured. Whoever calls holds the locks on their rows.
CREATE FUNCTION {schema}.put_metrics(ids uuid[], counted jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
BEGIN
  INSERT INTO session_metrics (
    session_id, user_id, type, assets, tags, created_at, expires_at, last_accessed_at, archived_at, version,
    total_queries, cache_hits, day, counts
  )
  SELECT s.id, s.user_id, s.type, s.assets, s.tags, s.created_at, s.expires_at, s.last_accessed_at, s.archived_at,
    s.version, s.total_queries, s.cache_hits, floor(s.created_at / 86400000000.0)::bigint, m.counts
  FROM (
    SELECT session_id, jsonb_object_agg(key, number) AS counts
    FROM measured(CASE WHEN counted IS NULL THEN ids END, 0) WHERE left(key, 5) <> 'user:' GROUP BY session_id
    UNION ALL
    SELECT i.id, counted -> i.id::text FROM unnest(ids) AS i(id) WHERE counted IS NOT NULL
  ) AS m
  CROSS JOIN LATERAL (SELECT * FROM sessions WHERE id = m.session_id OFFSET 0) AS s
  WHERE s.archived_at IS NOT NULL -- outside, so that nobody looks for all that is archived
  ON CONFLICT (session_id) DO UPDATE SET
    user_id = excluded.user_id, type = excluded.type, assets = excluded.assets, tags = excluded.tags,
    created_at = excluded.created_at, expires_at = excluded.expires_at, last_accessed_at = excluded.last_accessed_at,
    archived_at = excluded.archived_at, version = excluded.version, total_queries = excluded.total_queries,
    cache_hits = excluded.cache_hits, day = excluded.day, counts = excluded.counts;
END
$function$

-- What sessions count, each number by session and key: `perdure.models.measures`. Those that are not archived have
-- expired if they have at `instant`.
CREATE FUNCTION {schema}.measured(ids uuid[], instant bigint)
 RETURNS TABLE(session_id uuid, key text, number bigint)
 LANGUAGE sql
 STABLE
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
  WITH these AS MATERIALIZED (
    SELECT s.id, s.user_id, s.type, s.total_queries, s.cache_hits,
      CASE jsonb_typeof(s.assets) WHEN 'array' THEN s.assets ELSE '[]' END AS assets,
      CASE jsonb_typeof(s.tags) WHEN 'array' THEN s.tags ELSE '[]' END AS tags,
      s.archived_at IS NOT NULL AS archived,
      s.expires_at <= coalesce(s.archived_at, instant) AS expired,
      -- 2 ^ 43 is the most that counts.
      least(greatest((s.last_accessed_at - s.created_at) / 1000, 0), 8796093022208) AS lasted,
      hour_of(s.created_at) AS began
    FROM sessions AS s
    WHERE s.id = ANY (ids)
  ), asked AS MATERIALIZED (
    SELECT t.id, a.query_type, a.took_us, a.failed, a.hour
    FROM these AS t
    CROSS JOIN LATERAL (SELECT body FROM session_queries WHERE session_id = t.id OFFSET 0) AS q
    CROSS JOIN LATERAL asked_of(q.body, t.began) AS a
  )
  SELECT t.id, n.key, n.number
  FROM these AS t, LATERAL (
    VALUES
      ('sessions', 1), ('archived', t.archived::integer), ('expired', t.expired::integer),
      ('abandoned', (t.expired AND t.total_queries < 2)::integer),
      ('queries', t.total_queries), ('cache_hits', t.cache_hits), ('lasted_ms', t.lasted),
      ('lasted:' || bucket_of(t.lasted), 1), ('length:' || t.total_queries, 1),
      ('began:' || t.began, 1), ('type:' || t.type, 1), ('user:' || t.user_id, 1)
  ) AS n(key, number)
  WHERE n.key IS NOT NULL AND n.number <> 0
  UNION ALL
  SELECT t.id, 'asset:' || name, 1 FROM these AS t, jsonb_array_elements_text(t.assets) AS name
  UNION ALL
  SELECT t.id, 'tag:' || name, 1 FROM these AS t, jsonb_array_elements_text(t.tags) AS name
  UNION ALL
  SELECT a.id, n.key, sum(n.number)::bigint
  FROM asked AS a, LATERAL (
    VALUES
      ('query:' || a.query_type, 1), ('asked:' || a.hour, 1), ('errors', a.failed::integer),
      ('timed', (a.took_us IS NOT NULL)::integer), ('took_us', a.took_us),
      ('took:' || bucket_of(a.took_us) || ':' || a.query_type, 1)
  ) AS n(key, number)
  WHERE n.key IS NOT NULL AND n.number <> 0
  GROUP BY a.id, n.key
$function$

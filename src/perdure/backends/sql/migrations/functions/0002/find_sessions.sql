-- Rows of sessions that have all of the labels, newest first, from below a sort key on; `labelled_at` is what the label
-- says of when it was created, and all else NULL where a label belongs to no session.
--
-- The rarest label is read in the order of the page, each of the flags by itself, and the others looked up: no more than
-- two pages are sorted. Other ways of going about it are ruled out, as plans are made once and for stores of any size.
CREATE FUNCTION {schema}.find_sessions(labels text[], with_active boolean, with_archived boolean, below_at bigint, below_id uuid, since bigint, most integer)
 RETURNS TABLE(id uuid, user_id text, type text, assets jsonb, tags jsonb, created_at bigint, expires_at bigint, last_accessed_at bigint, archived_at bigint, version bigint, head text, total_queries bigint, cache_hits bigint, first_query_at bigint, last_query_at bigint, state_bytes bigint, history_bytes bigint, writers bytea, labelled_id uuid, labelled_at bigint)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_sort TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE
  rarest text := labels[1];
  others text[] := '{}';
BEGIN
  IF cardinality(labels) > 1 THEN
    SELECT l.label INTO rarest
    FROM unnest(labels) AS l(label)
    ORDER BY (
      SELECT count(*) FROM (SELECT FROM session_labels AS x WHERE x.label = l.label LIMIT 1000) AS some_of_them
    )
    LIMIT 1;
    others := array_remove(labels, rarest);
  END IF;
  RETURN QUERY
  SELECT s.id, s.user_id, s.type, s.assets, s.tags, s.created_at, s.expires_at, s.last_accessed_at, s.archived_at,
    s.version, s.head, s.total_queries, s.cache_hits, s.first_query_at, s.last_query_at, s.state_bytes,
    s.history_bytes, '\x'::bytea, page.session_id, page.created_at
  FROM (
    (
      SELECT l.created_at, l.session_id
      FROM session_labels AS l
      WHERE with_active AND l.label = rarest AND l.archived = 0
        AND (l.created_at, l.session_id) < (below_at, below_id) AND l.created_at >= since
        AND NOT EXISTS (
          SELECT FROM unnest(others) AS o(label)
          WHERE NOT EXISTS (
            SELECT FROM session_labels AS x
            WHERE x.label = o.label AND x.archived = 0 AND x.created_at = l.created_at AND x.session_id = l.session_id
            OFFSET 0
          )
          OFFSET 0
        )
      ORDER BY l.created_at DESC, l.session_id DESC
      LIMIT most
    )
    UNION ALL
    (
      SELECT l.created_at, l.session_id
      FROM session_labels AS l
      WHERE with_archived AND l.label = rarest AND l.archived = 1
        AND (l.created_at, l.session_id) < (below_at, below_id) AND l.created_at >= since
        AND NOT EXISTS (
          SELECT FROM unnest(others) AS o(label)
          WHERE NOT EXISTS (
            SELECT FROM session_labels AS x
            WHERE x.label = o.label AND x.archived = 1 AND x.created_at = l.created_at AND x.session_id = l.session_id
            OFFSET 0
          )
          OFFSET 0
        )
      ORDER BY l.created_at DESC, l.session_id DESC
      LIMIT most
    )
    ORDER BY created_at DESC, session_id DESC
    LIMIT most
  ) AS page
  LEFT JOIN LATERAL (SELECT * FROM sessions WHERE sessions.id = page.session_id OFFSET 0) AS s ON true
  ORDER BY page.created_at DESC, page.session_id DESC;
END
$function$

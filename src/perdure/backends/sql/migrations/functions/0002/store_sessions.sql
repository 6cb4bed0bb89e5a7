-- Keep whole sessions whose ids are free, each with the ticket of its id where tickets are given, and say of every one
-- what became of it: stored, buried (a tombstone is there), refused (the ticket is void), or kept (a copy is there, which
-- the caller merges it with if it is `absorbing`).
--
-- The row of `sessions` is the slot of an id: who wants to fill it inserts the row first, and looks at tombstone and
-- ticket afterwards, when nobody else can.
CREATE FUNCTION {schema}.store_sessions(facts json, tickets json, absorbing boolean, entry_of text[], sections text[], keys text[], texts text[], query_of text[], positions text[], bodies text[])
 RETURNS TABLE(id uuid, outcome text, version bigint, head text, archived boolean)
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE
  ids uuid[] := ARRAY(SELECT f.id FROM json_to_recordset(facts) AS f(id uuid));
  stored uuid[];
  buried uuid[];
  refused uuid[];
  archived uuid[];
BEGIN
  WITH taken AS (
    INSERT INTO sessions (
      id, user_id, type, assets, tags, created_at, expires_at, due_at, last_accessed_at, archived_at, version, head,
      total_queries, cache_hits, first_query_at, last_query_at, state_bytes, history_bytes, writers
    )
    SELECT f.id, f.user_id, f.type, f.assets, f.tags, f.created_at, f.expires_at,
      CASE WHEN f.archived_at IS NULL THEN f.expires_at END, f.last_accessed_at, f.archived_at, f.version, f.head,
      f.total_queries, f.cache_hits, f.first_query_at, f.last_query_at, f.state_bytes, f.history_bytes, f.writers
    FROM json_populate_recordset(NULL::sessions, facts) AS f
    ORDER BY f.id
    ON CONFLICT (id) DO NOTHING
    RETURNING id, archived_at
  )
  SELECT coalesce(array_agg(id), '{}'), array_agg(id) FILTER (WHERE archived_at IS NOT NULL)
  INTO stored, archived FROM taken;

  buried := ARRAY(SELECT session_id FROM session_tombstones WHERE session_id = ANY (stored));
  IF tickets IS NOT NULL THEN
    refused := ARRAY(
      SELECT s.id
      FROM unnest(stored) AS s(id)
      LEFT JOIN LATERAL (SELECT ticket FROM session_tickets WHERE session_id = s.id OFFSET 0) AS t ON true
      WHERE (t.ticket = tickets ->> s.id::text) IS NOT TRUE AND s.id <> ALL (buried)
    );
  END IF;
  IF cardinality(buried) > 0 OR cardinality(refused) > 0 THEN
    DELETE FROM sessions WHERE id = ANY (buried || refused);
    stored := ARRAY(SELECT s.id FROM unnest(stored) AS s(id) WHERE s.id <> ALL (buried || refused));
  END IF;

  -- Tickets are void, used or not. One that is locked is being voided, or taken at this moment: it need not be waited for.
  DELETE FROM session_tickets WHERE session_id = ANY (ARRAY(
    SELECT session_id FROM session_tickets
    WHERE session_id = ANY (CASE WHEN absorbing AND tickets IS NULL THEN ids ELSE stored END) AND session_id <> ALL (buried)
    FOR UPDATE SKIP LOCKED
  ));
  INSERT INTO session_labels SELECT * FROM unnest(label_rows(stored));
  PERFORM put_contents(stored, entry_of, sections, keys, texts, query_of, positions, bodies);
  IF archived IS NOT NULL THEN
    PERFORM put_metrics(archived, (
      SELECT jsonb_object_agg(f.id, f.counts) FROM json_to_recordset(facts) AS f(id uuid, counts jsonb)
      WHERE f.counts IS NOT NULL
    ));
  END IF;

  RETURN QUERY
  SELECT s.id, 'stored', NULL::bigint, NULL::text, NULL::boolean FROM unnest(stored) AS s(id)
  UNION ALL SELECT s.id, 'buried', NULL, NULL, NULL FROM unnest(buried) AS s(id)
  UNION ALL SELECT s.id, 'refused', NULL, NULL, NULL FROM unnest(refused) AS s(id);
  IF cardinality(stored || buried || refused) < cardinality(ids) THEN
    RETURN QUERY
    SELECT s.id, 'kept', s.version, s.head, s.archived_at IS NOT NULL
    FROM sessions AS s
    WHERE s.id = ANY (ids) AND s.id <> ALL (stored);
  END IF;
END
$function$

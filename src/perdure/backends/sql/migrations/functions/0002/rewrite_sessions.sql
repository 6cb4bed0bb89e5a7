-- Give sessions that are there other facts, and what they lack of the contents; `gone_…` names entries to be removed.
-- Whoever calls holds the locks on their rows.
CREATE FUNCTION {schema}.rewrite_sessions(facts json, gone_of text[], gone_sections text[], gone_keys text[], entry_of text[], sections text[], keys text[], texts text[], query_of text[], positions text[], bodies text[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
DECLARE
  ids uuid[] := ARRAY(SELECT f.id FROM json_to_recordset(facts) AS f(id uuid));
  before session_labels[] := label_rows(ids);
  gone record;
BEGIN
  UPDATE sessions AS s SET
    user_id = f.user_id, type = f.type, assets = f.assets, tags = f.tags, created_at = f.created_at,
    expires_at = f.expires_at, due_at = CASE WHEN f.archived_at IS NULL THEN f.expires_at END,
    last_accessed_at = f.last_accessed_at, archived_at = f.archived_at, version = f.version, head = f.head,
    total_queries = f.total_queries, cache_hits = f.cache_hits, first_query_at = f.first_query_at,
    last_query_at = f.last_query_at, state_bytes = f.state_bytes, history_bytes = f.history_bytes, writers = f.writers
  FROM json_populate_recordset(NULL::sessions, facts) AS f
  WHERE s.id = f.id AND s.id = ANY (ids);
  FOR gone IN
    SELECT g.session::uuid AS id, g.section, g.key
    FROM unnest(gone_of, gone_sections, gone_keys) AS g(session, section, key)
  LOOP
    DELETE FROM session_entries WHERE session_id = gone.id AND section = gone.section AND key = gone.key;
  END LOOP;
  PERFORM put_contents(ids, entry_of, sections, keys, texts, query_of, positions, bodies);
  PERFORM relabel(before, label_rows(ids));
  PERFORM put_metrics(ids, NULL);
END
$function$

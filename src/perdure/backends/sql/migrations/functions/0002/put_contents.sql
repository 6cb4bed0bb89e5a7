-- Keep entries and queries of sessions that are there; an entry replaces the one of its key. What belongs to sessions
-- other than `kept` is passed over.
CREATE FUNCTION {schema}.put_contents(kept uuid[], entry_of text[], sections text[], keys text[], texts text[], query_of text[], positions text[], bodies text[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
  INSERT INTO session_entries (session_id, section, key, value)
  SELECT k.id, e.section, e.key, e.text
  FROM unnest(kept) AS k(id)
  JOIN unnest(entry_of, sections, keys, texts) AS e(session, section, key, text) ON k.id = e.session::uuid
  ON CONFLICT (session_id, section, key) DO UPDATE SET value = excluded.value;
  INSERT INTO session_queries (session_id, position, body)
  SELECT k.id, q.place::bigint, q.body
  FROM unnest(kept) AS k(id)
  JOIN unnest(query_of, positions, bodies) AS q(session, place, body) ON k.id = q.session::uuid;
END
$function$

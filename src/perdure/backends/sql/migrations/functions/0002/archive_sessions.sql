-- Archive those of the copies ({id, version, head} each) that are still kept as they are, as of `instant`; they stay due.
-- Tells of every copy since when it is archived, NULL if it is not, and whether a tombstone is in its place.
CREATE FUNCTION {schema}.archive_sessions(copies json, instant bigint)
 RETURNS TABLE(id uuid, archived_at bigint, buried boolean)
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE
  ids uuid[] := ARRAY(SELECT c.id FROM json_to_recordset(copies) AS c(id uuid));
  held uuid[];
  active uuid[];
  before session_labels[];
BEGIN
  held := ARRAY(SELECT id FROM sessions WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE);
  active := ARRAY(
    SELECT c.id FROM json_to_recordset(copies) AS c(id uuid, version bigint, head text),
      LATERAL (SELECT * FROM sessions WHERE sessions.id = c.id OFFSET 0) AS s
    WHERE c.id = ANY (held) AND s.version = c.version AND s.head = c.head AND s.archived_at IS NULL
  );
  before := label_rows(active);
  UPDATE sessions SET archived_at = instant WHERE id = ANY (active);
  PERFORM relabel(before, label_rows(active));
  PERFORM put_metrics(active, NULL);
  RETURN QUERY
  SELECT c.id, CASE WHEN s.version = c.version AND s.head = c.head THEN s.archived_at END, t.session_id IS NOT NULL
  FROM json_to_recordset(copies) AS c(id uuid, version bigint, head text)
  LEFT JOIN LATERAL (SELECT * FROM sessions WHERE sessions.id = c.id OFFSET 0) AS s ON s.id = ANY (held)
  LEFT JOIN LATERAL (SELECT * FROM session_tombstones WHERE session_id = c.id OFFSET 0) AS t ON true;
END
$function$
